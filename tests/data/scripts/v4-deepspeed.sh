deepspeed --include localhost:2,3 --master_port=29600 /opt/ms-swift/swift/cli/sft.py \
  --model Qwen/Qwen3-8B --tuner_type full --dataset train.jsonl --deepspeed zero3
