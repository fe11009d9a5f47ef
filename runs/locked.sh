#!/usr/bin/env bash
# How many bytes unlock lab:locked: about a quarter of an hour on two cores.
# Usage: runs/locked.sh [folder of the taskbits command]
set -eu
bin=${1:-.venv/bin}
out=locked
for task in math translation instruction; do
    "$bin/taskbits" measure --model lab:locked --task "lab:$task" --out "$out/$task" --budget 4m
done
"$bin/taskbits" compare "$out/math" "$out/translation" "$out/instruction" --picture "$out/comparison.png"
