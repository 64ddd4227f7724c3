# bash completion for dsreport(1)
_dsreport() {
	local cur opt word
	_ds_word
	case $opt in
	--since | --until) word='1h 6h 1d 2d 1w 4w' ;;
	--uid) mapfile -t COMPREPLY < <(compgen -u -- "$cur") && return ;;
	--top) word='5 10 20 50' ;;
	--svg | --png) _ds_folders && return ;;
	--csv | --json | --html | --churn | --churn-from) _ds_files && return ;;
	--host | --comm | --cgroup) return ;;
	*)
		if [[ $cur != -* ]]; then
			_ds_files
			return
		fi
		word='--since --until --host --comm --uid --cgroup --top --quiet --csv --json --html --svg --png --churn --churn-from --help --usage --version'
		;;
	esac
	_ds_words "$word"
}
complete -F _dsreport dsreport
