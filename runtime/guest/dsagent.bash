# dsagent.bash - completion of dsagent's options in bash
# shellcheck shell=bash
_dsagent() {
	local cur=${COMP_WORDS[COMP_CWORD]} opt=${COMP_WORDS[COMP_CWORD - 1]}
	# "--limit=50%" arrives as three words, because = breaks words
	if [ "$cur" = "=" ]; then
		cur=""
	elif [ "$opt" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
		opt=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	case $opt in
	--socket | --host)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--limit) mapfile -t COMPREPLY < <(compgen -W "25% 50% 75%" -- "$cur") ;;
	--shadows) mapfile -t COMPREPLY < <(compgen -W "16 256 1024" -- "$cur") ;;
	--retry) mapfile -t COMPREPLY < <(compgen -W "1 5 30" -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--socket --limit --shadows --retry --root-only --users-window --host --verbose --help --version" -- "$cur") ;;
	esac
}
complete -F _dsagent dsagent
