echo start; swift sft --a 1 && swift sft --b 2 || echo failed; { swift sft --d 4; }
(swift sft --e 5)
time swift sft --f 6
bash -c 'swift sft --g "7 8"'
CMD="swift sft --h 9"
$CMD --i
eval "$CMD --j 'k l'"
true | swift sft --m {1,2}x pre{a,b}post {3..5}
