nproc_per_node=2

CUDA_VISIBLE_DEVICES=0,1 \
NPROC_PER_NODE=$nproc_per_node \
swift sft \
    --model Qwen/Qwen3-8B \
    --train_type full \
    --dataset data/train.jsonl \
    --torch_dtype bfloat16 \
    --gradient_accumulation_steps $(expr 32 / $nproc_per_node) \
    --deepspeed zero2 \
    --load_from_cache_file false \
    --save_only_model true
