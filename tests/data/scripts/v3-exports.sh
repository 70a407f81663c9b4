#!/bin/bash
set -x
export CUDA_VISIBLE_DEVICES=0,1
export NPROC_PER_NODE=2 OMP_NUM_THREADS=14
export MAX_PIXELS=1003520
MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct}
RUN="lora-${MODEL_PATH##*/}"

swift sft --model "$MODEL_PATH" --train_type lora --freeze_vit true --run_name "$RUN" \
    --output_dir "output/$RUN" --dataset "vqa.jsonl#20000" --report_to swanlab wandb
