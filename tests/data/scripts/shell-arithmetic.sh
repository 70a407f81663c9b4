gpus=4; total=64; per=2
swift sft --a $((total / gpus / per)) --b $(expr $total / $gpus \* 2) --c `expr 7 - 10` --d $(( (total + 1) % gpus )) \
  --e $((-7 / 2)) --f "$((gpus*per))x" --g $(echo $gpus) --h $(basename /a/b.sh .sh) --i $(dirname /a/b)
