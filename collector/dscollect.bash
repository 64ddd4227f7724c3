# dscollect.bash - completion of dscollect's options and their values in bash
# shellcheck shell=bash
_dscollect() {
	local cur opt
	_ds_word
	case $opt in
	--join) _ds_words "none head full" ;;
	--db | --config) _ds_files ;;
	--root) _ds_folders ;;
	-p | --pid) _ds_processes ;;
	-j | --jobs) _ds_words "1 2 4 8 16" ;;
	--timeout) _ds_words "5 10 30 60" ;;
	*)
		if [[ $cur == -* || -z $cur ]]; then
			_ds_words "--db --config --pid --jobs --join --root --keep-runs \
				--timeout --prune --quiet --json --help --version"
		fi
		;;
	esac
}
complete -F _dscollect dscollect
