//! Converts a layer's tar on standard input into an EROFS image: `layer2erofs DISK < TAR`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};

use beluga_image::Limits;
use beluga_image::layer::convert;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = std::env::args_os()
        .nth(1)
        .ok_or("usage: layer2erofs DISK < TAR")?;
    let spool_path = format!("{}.spool", disk.to_string_lossy());
    let spool = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&spool_path)?;
    std::fs::remove_file(&spool_path)?;
    let disk = BufWriter::with_capacity(1 << 18, File::create(disk)?);
    let tar = BufReader::with_capacity(1 << 17, io::stdin().lock());
    println!("{} bytes", convert(tar, disk, spool, &Limits::default())?);
    Ok(())
}
