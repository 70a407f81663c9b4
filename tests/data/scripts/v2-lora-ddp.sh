# Experimental environment: 2 * A10
nproc_per_node=2

PYTHONPATH=../../.. \
CUDA_VISIBLE_DEVICES=0,1 \
torchrun \
    --nproc_per_node=$nproc_per_node \
    --master_port 29500 \
    llm_sft.py \
    --model_id_or_path qwen/Qwen2.5-7B-Instruct \
    --model_revision master \
    --sft_type lora \
    --tuner_backend swift \
    --template_type AUTO \
    --dtype AUTO \
    --output_dir output \
    --dataset alpaca-zh#500 self-cognition#100 \
    --train_dataset_sample -1 \
    --check_dataset_strategy warning \
    --lora_target_modules ALL \
    --lora_dropout_p 0.05 \
    --batch_size 1 \
    --weight_decay 0. \
    --learning_rate 1e-4 \
    --gradient_accumulation_steps $(expr 16 / $nproc_per_node) \
    --model_name 小黄 'Xiao Huang' \
    --model_author 魔搭 ModelScope \
    --deepspeed_config_path 'ds_config/zero2.json' \
    --only_save_model true \

