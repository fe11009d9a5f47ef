#!/bin/bash
# How many bytes unlock lab:locked, and what the same takes given the models before it: about twenty minutes on two cores.
# Usage: runs/locked.sh DIR
set -e
out=${1:?a folder for the studies}
for task in math translation instruction; do
    taskbits measure --model lab:pretrained,lab:posttrained,lab:locked --task lab:$task --out "$out/$task" --budget 3m
done
taskbits compare "$out"/math/* --picture "$out/locked.png"
