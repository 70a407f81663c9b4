# ms-swift 4: train_type became tuner_type
CUDA_VISIBLE_DEVICES=0 \
swift sft \
    --model Qwen/Qwen3-4B-Instruct-2507 \
    --tuner_type lora \
    --dataset 'swift/self-cognition:qwen3#600' \
    --load_from_cache_file true \
    --add_non_thinking_prefix true \
    --torch_dtype bfloat16 \
    --lora_rank 8 --lora_alpha 32 \
    --model_author swift --model_name swift-robot
