# one 24 GB card
PYTHONPATH=../../.. \
CUDA_VISIBLE_DEVICES=0 \
python llm_sft.py \
    --model_type baichuan2-7b-chat \
    --sft_type lora \
    --quantization_bit 4 \
    --bnb_4bit_comp_dtype AUTO \
    --dtype bf16 \
    --dataset blossom-math-zh \
    --train_dataset_sample 5000 \
    --lora_target_modules DEFAULT \
    --max_length 2048 \
    --neftune_noise_alpha 5
