# bash completion for dsreport(1)
_dsreport() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} word
	# --option=value arrives as three words
	if [ "$prev" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	elif [ "$cur" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD - 1]} cur=
	fi
	COMPREPLY=()
	case $prev in
	--since | --until) word='1h 6h 1d 2d 1w 4w' ;;
	--uid) mapfile -t COMPREPLY < <(compgen -u -- "$cur") && return ;;
	--top) word='5 10 20 50' ;;
	--svg | --png) mapfile -t COMPREPLY < <(compgen -d -- "$cur") && compopt -o filenames && return ;;
	--csv | --json | --html | --churn | --churn-from) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && compopt -o filenames && return ;;
	--host | --comm | --cgroup) return ;;
	*)
		if [[ $cur != -* ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			compopt -o filenames
			return
		fi
		word='--since --until --host --comm --uid --cgroup --top --quiet --csv --json --html --svg --png --churn --churn-from --help --usage --version'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
}
complete -F _dsreport dsreport
