#!/usr/bin/env bash
# The main job in miniature: the same task, measured given a random, a pre-trained and a post-trained model.
# Usage: runs/demo.sh [folder of the taskbits command]
set -eu
bin=${1:-.venv/bin}
out=demo
for name in posttrained pretrained random; do
    "$bin/taskbits" measure --model "lab:$name" --task lab:math --out "$out/$name" --budget 62s --rows 150
done
"$bin/taskbits" compare "$out/random" "$out/pretrained" "$out/posttrained" --picture "$out/comparison.png"
"$bin/taskbits" report "$out/pretrained"
