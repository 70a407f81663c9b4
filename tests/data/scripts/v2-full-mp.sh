CUDA_VISIBLE_DEVICES=0,1,2,3 \
python ../../llm_sft.py \
    --model_id_or_path "AI-ModelScope/Mistral-7B-Instruct-v0.2" \
    --template_type llama --sft_type full --dtype fp16 \
    --custom_train_dataset_path a.jsonl b.jsonl --custom_val_dataset_path val.jsonl \
    --dataset_test_ratio 0 --evaluation_strategy steps --push_to_hub false --hub_token 'your-sdk-token' \
    --lr_scheduler_type cosine --additional_trainable_parameters lm_head
