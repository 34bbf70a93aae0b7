//! What a document is: a manifest or an index. One that can be taken for both is refused, whoever
//! gives it: its digest would stand for two images (CVE-2021-41190).

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::LoadError;
use crate::digest::Digest;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Manifest,
}

impl Kind {
    /// What a media type says, where it says one of the two.
    pub(crate) fn of_type(media_type: &str) -> Option<Self> {
        if INDEX_TYPES.contains(&media_type) {
            Some(Self::Index)
        } else if MANIFEST_TYPES.contains(&media_type) {
            Some(Self::Manifest)
        } else {
            None
        }
    }
}

/// The kind of a document, from what is in it. `called` is its media type as whoever led to it
/// says, a descriptor or a registry.
pub(crate) fn kind(bytes: &[u8], digest: Digest, called: &str) -> Result<Kind, LoadError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "schemaVersion", default)]
        schema_version: u32,
        #[serde(rename = "mediaType", default)]
        media_type: String,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
        #[serde(rename = "fsLayers")]
        fs_layers: Option<IgnoredAny>,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|source| LoadError::Document {
        name: digest.to_string(),
        source,
    })?;
    let unknown = || LoadError::ManifestType {
        digest,
        media_type: match head.media_type.as_str() {
            "" => called.to_owned(),
            own => own.to_owned(),
        },
    };
    if head.schema_version != 2 {
        return Err(unknown());
    }
    let is_index = head.manifests.is_some();
    let is_manifest = head.layers.is_some() || head.config.is_some();
    let found = match (is_index, is_manifest, head.fs_layers.is_some()) {
        (true, false, false) => Kind::Index,
        (false, true, false) => Kind::Manifest,
        (false, false, _) => return Err(unknown()),
        _ => {
            let why = "it has the fields of both";
            return Err(LoadError::Ambiguous { digest, why });
        }
    };
    for (said, why) in [
        (head.media_type.as_str(), "its own mediaType says the other"),
        (called, "what leads to it says the other"),
    ] {
        if Kind::of_type(said).is_some_and(|said| said != found) {
            return Err(LoadError::Ambiguous { digest, why });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, called: &str) -> Result<Kind, String> {
        let found = kind(text.as_bytes(), Digest::of(b""), called);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_is_one_thing() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(found(index, "as/said"), Ok(Kind::Index));
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert_eq!(found(manifest, "as/said"), Ok(Kind::Manifest));
        for text in [
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            r#"{"schemaVersion":1,"config":{},"layers":[]}"#,
            r#"{"schemaVersion":2}"#,
        ] {
            let error = found(text, "as/said").unwrap_err();
            assert!(error.contains("as/said"), "{error}");
        }
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        let own = |kind: &str, rest: &str| {
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",{rest}}}")
        };
        let (index, manifest) = ("\"manifests\":[]", "\"config\":{},\"layers\":[]");
        for (text, called) in [
            (own("", &format!("{index},{manifest}")), ""),
            (own("", "\"manifests\":[],\"layers\":[]"), ""),
            (own("", &format!("{manifest},\"fsLayers\":[]")), ""),
            (own(MANIFEST_TYPES[0], index), ""),
            (own(INDEX_TYPES[1], manifest), ""),
            (own("", manifest), INDEX_TYPES[0]),
            (own("", index), MANIFEST_TYPES[1]),
        ] {
            let error = found(&text, called).unwrap_err();
            assert!(error.contains("a manifest or an index"), "{text}: {error}");
        }
        let same = own(INDEX_TYPES[0], index);
        assert_eq!(found(&same, INDEX_TYPES[1]), Ok(Kind::Index));
    }
}
