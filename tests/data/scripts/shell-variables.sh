A=one; B="two words"; C=$A-$B; unset A
export D="${C}" E
E=later
F=(p 'q r' s); G=${F[1]}; H=${#B}
X= swift sft $B "$B" ${A:-"none here"} "${A:-a b}" ${B:+set} ${C%-*} ${C#*-} "${F[@]}" ${F[2]} $G "$G" $H -- "${UNSET:-}"
