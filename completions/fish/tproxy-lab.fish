# SPDX-License-Identifier: GPL-2.0-or-later
# Made from `tproxy-lab --help` by completions/generate.

complete -c tproxy-lab -f
complete -c tproxy-lab -n __fish_use_subcommand -a run -d 'build a lab, run COMMAND (or a shell) on host proxy, remove everything'
complete -c tproxy-lab -n __fish_use_subcommand -a up -d 'build a lab that stays until `down\''
complete -c tproxy-lab -n __fish_use_subcommand -a exec -d 'run COMMAND on a host: of the lab of the `run\' that this is called in, else of the one that is up'
complete -c tproxy-lab -n __fish_use_subcommand -a status -d 'hosts, process ids, interfaces, addresses; 1 without a lab'
complete -c tproxy-lab -n __fish_use_subcommand -a down -d 'remove the lab and every process in it'
complete -c tproxy-lab -s n -l name -x -d 'which of several labs (the one without a name)'
complete -c tproxy-lab -n 'not __fish_seen_subcommand_from run exec status down' -s f -l foreground -d '`up\' stays until it gets a signal'
complete -c tproxy-lab -n 'not __fish_seen_subcommand_from run up exec down' -s H -l no-header -d 'no header line'
complete -c tproxy-lab -s q -l quiet -d 'no notices on stderr'
complete -c tproxy-lab -s v -l verbose -d 'more on stderr; every address in `status\''
complete -c tproxy-lab -l help -d 'print this help and exit'
complete -c tproxy-lab -l version -d 'print the version and exit'

function __tproxy_lab_after_exec
	set -l words (commandline -opc)
	set -l at (contains -i -- exec $words); or return
	set at (math $at + 1)
	test (count $words) -ge $at; or begin; string split " " "client proxy server bystander"; return; end
	complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) (commandline -ct))
end
complete -c tproxy-lab -n 'contains -- exec (commandline -opc)' -x -a '(__tproxy_lab_after_exec)'

function __tproxy_lab_after_dashdash
	set -l words (commandline -opc)
	set -l at (contains -i -- -- $words); or return
	complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) (commandline -ct))
end
complete -c tproxy-lab -n 'contains -- -- (commandline -opc)' -x -a '(__tproxy_lab_after_dashdash)'
