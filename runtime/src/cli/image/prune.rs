//! `beluga prune`: images that nothing uses.

use crate::cli::error::UsageError;
use crate::cli::images::{self, megabytes};
use crate::cli::{CliError, exit};
use crate::engine;
use crate::settings::Settings;
use beluga_image::{Digest, Reference, Unused};
use std::io::{self, IsTerminal as _, Write as _};

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All images that no pod uses, not only those without a tag, and what interrupted pulls left
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let which = if args.all {
        Unused::All
    } else {
        Unused::Untagged
    };
    if !args.force && !args.dry_run && !confirmed(which)? {
        return Ok(exit::OK);
    }
    let Some(store) = images::to_read(settings)? else {
        say!("Total reclaimed space: {}", megabytes(0));
        return Ok(exit::OK);
    };
    // The right to remove comes first: a pod that begins meanwhile is seen, or waits.
    let removal = store.removal()?;
    let in_use = engine::image_users(settings, false).await?;
    if args.dry_run {
        for image in removal.unused(which, &in_use)? {
            say!("would delete: {}", called(&image.names, image.id));
        }
        for one in removal.unused_broken(which, &in_use)? {
            let id = one.id.unwrap_or(one.manifest_digest);
            say!("would delete: {}", called(&one.names, id));
        }
        return Ok(exit::OK);
    }
    let pruned = removal.prune(which, &in_use)?;
    let whole = pruned.images.iter();
    let whole = whole.map(|image| (&image.names, &image.digests, image.id));
    let broken = pruned.broken.iter().map(|one| {
        let id = one.id.unwrap_or(one.manifest_digest);
        (&one.names, &one.digests, id)
    });
    for (names, digests, id) in whole.chain(broken) {
        for name in names.iter().chain(digests) {
            say!("untagged: {}", name.familiar());
        }
        say!("deleted: {id}");
    }
    say!("Total reclaimed space: {}", megabytes(pruned.freed));
    Ok(exit::OK)
}

fn called(names: &[Reference], id: Digest) -> String {
    let names: Vec<String> = names.iter().map(Reference::familiar).collect();
    match names.is_empty() {
        true => id.to_string(),
        false => format!("{id} ({})", names.join(", ")),
    }
}

/// Asks on the terminal. Whoever has none says `--force`.
fn confirmed(which: Unused) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(UsageError::NobodyToAsk.into());
    }
    let what = match which {
        Unused::All => "all images that no pod uses",
        Unused::Untagged => "all images that no pod uses and no tag names",
    };
    eprint!("This will remove {what}.\nAre you sure you want to continue? [y/N] ");
    drop(io::stderr().flush());
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|source| CliError::io("read the answer", source))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
