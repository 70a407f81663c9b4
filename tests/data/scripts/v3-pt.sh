NPROC_PER_NODE=4 CUDA_VISIBLE_DEVICES=0,1,2,3 swift pt --model Qwen/Qwen2.5-7B --train_type full --dataset corpus.jsonl \
  --streaming true --max_steps 1000 --packing true --attn_impl flash_attn
