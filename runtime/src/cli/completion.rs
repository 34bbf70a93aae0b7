//! `beluga completion`: clap's script for verbs and flags, with names in it that
//! only a look tells: the script asks `beluga __complete` for them.

pub mod names;

use super::{Cli, CliError, exit};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose completion script
    shell: Shell,
}

/// Runs the verb.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every verb has the same shape for the dispatcher"
)]
pub fn run(args: &Args) -> Result<u8, CliError> {
    // Into memory first: its writer panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "beluga", &mut script);
    let script = String::from_utf8_lossy(&script);
    put!("{}", with_names(args.shell, &script));
    Ok(exit::OK)
}

/// The command line without the verbs that are for scripts: clap's scripts would
/// offer them.
fn shown() -> Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("beluga")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(verbs.cloned())
}

/// Names come before what clap knows; where there is none, its word stands.
const BASH: &str = r#"
_beluga_names() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    if [[ $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("$1" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$cur")
        [[ ${#COMPREPLY[@]} -eq 0 ]] || return 0
    fi
    _beluga "$@"
}
complete -F _beluga_names -o bashdefault -o default beluga
"#;

const ZSH: &str = r#"
_beluga_names() {
    local -a names
    if [[ ${words[CURRENT]} != -* ]]; then
        names=(${(f)"$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
        (( $#names )) && compadd -a names && return
    fi
    _beluga "$@"
}
"#;

const FISH: &str = r#"
complete -c beluga -n "not __fish_beluga_needs_command" -a "(beluga __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)"
"#;

fn with_names(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        // The end of the script says which function completes.
        Shell::Zsh => match script.rfind("if [ \"$funcstack[1]\"") {
            Some(at) => {
                let (before, end) = script.split_at(at);
                let end = end.replace("    _beluga \"$@\"", "    _beluga_names \"$@\"");
                let end = end.replace("compdef _beluga beluga", "compdef _beluga_names beluga");
                format!("{before}{ZSH}\n{end}")
            }
            None => script.to_owned(),
        },
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_ask_for_names() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(), "beluga", &mut script);
            let script = with_names(shell, &String::from_utf8(script).unwrap());
            assert_eq!(script.matches("__complete").count(), 1, "{shell}");
            assert!(!script.contains("compdef _beluga beluga"), "{shell}");
        }
    }
}
