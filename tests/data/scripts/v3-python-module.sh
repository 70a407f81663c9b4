export PYTHONPATH=/opt/ms-swift
python -u -m torch.distributed.run --nproc-per-node 2 --nnodes=1 --master_port 29501 \
  -m swift.cli.sft --model Qwen/Qwen2.5-7B-Instruct --train_type lora --dataset a.jsonl --no_load_from_cache_file
