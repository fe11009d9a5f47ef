#!/usr/bin/env bash
# The main job in miniature: the same task, measured given a random, a pre-trained and a post-trained model.
# Usage: runs/demo.sh [folder of the taskbits command]
set -eu
bin=${1:-.venv/bin}
out=demo
measure() {
    "$bin/taskbits" measure --model "lab:$1" --task lab:math --out "$out/$1" \
        --methods zero-shot,few-shot,subset,lora --budget "$2" --rows 150
}
measure posttrained 42s
measure pretrained 125s
measure random 42s
"$bin/taskbits" compare "$out/random" "$out/pretrained" "$out/posttrained" --picture "$out/comparison.png"
"$bin/taskbits" report "$out/pretrained"
