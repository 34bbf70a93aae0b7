//! Loads images into a store and lists it: `load STORE [SOURCE]`; `-` is standard input.

use std::io;
use std::path::Path;

use beluga_image::{LoadOptions, Progress, Source, Store};

fn main() {
    if let Err(error) = run() {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        eprintln!("{text}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let store = Store::open(arguments.next().ok_or("usage: load STORE [SOURCE]")?)?;
    let mut stdin = io::stdin().lock();
    for source in arguments {
        let source = match source.to_str() {
            Some("-") => Source::Stream(&mut stdin),
            _ => Source::Path(Path::new(&source)),
        };
        let mut show = |progress| {
            if let Progress::LayerDone { .. } = progress {
                println!("{progress:?}");
            }
        };
        for image in store.load(source, &LoadOptions::default(), &mut show)? {
            println!("loaded {:?} {}", image.names, image.image.id);
        }
    }
    for image in store.list()? {
        let names: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
        println!(
            "{} {} {} {:?}",
            names.join(","),
            image.id.short(),
            image.size,
            image.config.cmd
        );
    }
    Ok(())
}
