//! `--dry-run`, as kubectl spells it.

/// The flag. Without a value it means the same as `client`: there is no server
/// that could be asked.
#[derive(Debug, clap::Args)]
pub struct Dry {
    /// Do nothing and print what would be done: the plan of each pod of -f, with *** in place of
    /// what Secrets say, or the manifest of a pod from an image
    #[arg(
        long,
        value_enum,
        value_name = "client",
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "client",
        hide_default_value = true,
        hide_possible_values = true
    )]
    dry_run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Run {
    None,
    Client,
    Server,
}

impl Dry {
    /// Whether nothing is to be done.
    pub fn is_run(&self) -> bool {
        self.dry_run != Run::None
    }
}

/// How an object is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// As JSON
    Json,
    /// As YAML
    Yaml,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        dry: Dry,
    }

    #[test]
    fn it_is_a_flag_and_takes_kubectls_words() {
        let is_run = |words: &[&str]| {
            Line::try_parse_from(["beluga"].iter().chain(words))
                .map(|line| line.dry.is_run())
                .ok()
        };
        assert_eq!(is_run(&[]), Some(false));
        assert_eq!(is_run(&["--dry-run"]), Some(true));
        assert_eq!(is_run(&["--dry-run=client"]), Some(true));
        assert_eq!(is_run(&["--dry-run=server"]), Some(true));
        assert_eq!(is_run(&["--dry-run=none"]), Some(false));
        assert_eq!(is_run(&["--dry-run=often"]), None);
    }
}
