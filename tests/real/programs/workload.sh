# bash: arrays, substitutions, here-documents, subshells and many short-lived processes.
set -euo pipefail
declare -A count=()
words=()
state=7
for ((i = 0; i < 4000; i++)); do
    state=$(((state * 1103515245 + 12345) % 2147483648))
    printf -v word 'w%x' $((state >> 12))
    words+=("$word")
    count[${word:0:3}]=$((${count[${word:0:3}]:-0} + 1))
done
printf '%s\n' "${words[@]}" | LC_ALL=C sort | sha256sum
for key in "${!count[@]}"; do echo "$key ${count[$key]}"; done | LC_ALL=C sort | sha256sum
text="${words[*]}"
echo "${#text} ${text//w[0-9]/_}" | sha256sum
changed=()
for word in "${words[@]:0:800}"; do
    if [[ $word =~ ^w([0-9a-f])([0-9a-f]+)$ ]]; then
        changed+=("${BASH_REMATCH[2]^^}${BASH_REMATCH[1]}")
    fi
done
echo "${changed[@]}" | sha256sum
for ((i = 0; i < 120; i++)); do
    echo "$(echo "${words[i]}" | tr a-f A-F | sed 's/W/x/')" $(($(wc -c <<<"${words[*]:0:i}") - 1))
done | sha256sum
deep() { if (($1 > 0)); then (local x="$2$1"; deep $(($1 - 1)) "$x") else echo "$2" | md5sum; fi; }
deep 25 start
long=x
for ((i = 0; i < 18; i++)); do long+=$long; done
echo "${#long}"
mapfile -t lines < <(for ((i = 0; i < 3000; i++)); do echo "line $i $((i * i))"; done)
echo "${#lines[@]} ${lines[2999]}"
