# dsmap.bash - completion of dsmap's options and their values in bash
# shellcheck shell=bash
_dsmap() {
	local cur opt
	_ds_word
	case $opt in
	--join) _ds_words "none head full" ;;
	--split) _ds_words "none prot attr" ;;
	--from | --out | --diff | --socket) _ds_files ;;
	--root) _ds_folders ;;
	*)
		if [[ $cur == -* ]]; then
			_ds_words "--stats --diff --out --from --json --split --join --root --agent --socket --help --version"
		else
			_ds_processes
		fi
		;;
	esac
}
complete -F _dsmap dsmap
