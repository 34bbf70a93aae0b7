//! OCI layouts and docker-archives made by hand, right or wrong on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use beluga_image::Digest;
use serde_json::{Value, json};

use super::{Scratch, Tar, file};

/// An OCI layout as files by name.
#[derive(Default, Clone)]
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

pub fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|tar| Digest::of(tar)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

impl Layout {
    /// A layout of one image with these uncompressed layers, named `name`.
    pub fn image(name: &str, layers: &[&[u8]]) -> Self {
        let mut layout = Layout::default();
        let packed: Vec<_> = layers.iter().map(|tar| (LAYER, tar.to_vec())).collect();
        let manifest = layout.add(&config("amd64", layers), &packed);
        layout.name(manifest, name);
        layout
    }

    pub fn blob(&mut self, bytes: &[u8]) {
        let name = format!("blobs/sha256/{}", Digest::of(bytes).hex());
        self.files.push((name, bytes.to_vec()));
    }

    /// Adds an image of packed layers; its descriptor.
    pub fn add(&mut self, config: &[u8], layers: &[(&str, Vec<u8>)]) -> Value {
        self.blob(config);
        layers.iter().for_each(|(_, bytes)| self.blob(bytes));
        let layers: Vec<Value> = layers
            .iter()
            .map(|(kind, bytes)| descriptor(kind, bytes))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        self.blob(&manifest);
        descriptor(MANIFEST, &manifest)
    }

    /// Adds a chain of indexes, each in the next, as long as that; the outermost.
    pub fn indexes(&mut self, length: usize) -> Vec<u8> {
        let mut inner = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        for _ in 0..length {
            self.blob(&inner);
            let entry = descriptor(INDEX, &inner);
            let outer = json!({"schemaVersion": 2, "manifests": [entry]});
            inner = outer.to_string().into_bytes();
        }
        inner
    }

    pub fn name(&mut self, mut descriptor: Value, name: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
    }

    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = self.files.clone();
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        files.push(("index.json".into(), index.to_string().into_bytes()));
        files.push((
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ));
        files
    }

    pub fn directory(&self, scratch: &Scratch, name: &str) -> PathBuf {
        for (file, bytes) in self.files() {
            scratch.file(&format!("{name}/{file}"), &bytes);
        }
        scratch.0.join(name)
    }

    pub fn tar(&self) -> Vec<u8> {
        Tar::of(
            self.files()
                .iter()
                .map(|(name, bytes)| file(&format!("./{name}"), bytes)),
        )
        .end()
    }
}

/// A docker-archive of one image.
pub fn docker_archive(tag: &str, layers: &[&[u8]]) -> Vec<u8> {
    let config = config("amd64", layers);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let mut tar = Tar::of([file(&config_name, &config)]);
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("layer-{number}/layer.tar");
        tar = tar.with(file(&name, layer));
        names.push(name);
    }
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    tar.with(file("manifest.json", manifest.to_string().as_bytes()))
        .end()
}

/// Every file below `dir` with its length, sorted.
pub fn contents(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let name = path
                .strip_prefix(dir)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            found.push((name, fs::metadata(&path).unwrap().len()));
        }
    }
    found.sort();
    found
}
