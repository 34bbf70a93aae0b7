//! [`ImageError`]: what goes wrong with images.

use super::registry;
use beluga_image::{
    BuildError, CredentialError, LoadError, PushError, ReferenceError, RegistryError, RemoveError,
    SaveError, StoreError, TagError, TarError,
};

use std::path::PathBuf;

/// Why an image is not to be had, or not to be got rid of.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Images that the store does not have.
    #[error("{}", absent(.images))]
    Absent {
        /// At least one.
        images: Vec<AbsentImage>,
    },
    /// Nothing has that name or identifier.
    #[error("no such image: {image}")]
    None {
        /// As given.
        image: String,
    },
    /// Images that cannot be written out.
    #[error("cannot save {images}")]
    Save {
        /// As given.
        images: String,
        /// Why.
        #[source]
        source: Box<SaveError>,
    },
    /// An image that cannot be given a name.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A name of an image that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image store.
    #[error("the image store failed")]
    Store(#[from] StoreError),
    /// The image store is another user's.
    #[error("the images of this host may not be used by this user")]
    NotAllowed(#[source] StoreError),
    /// An image that cannot be loaded.
    #[error("cannot load {file}")]
    Load {
        /// The archive.
        file: String,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
    /// An image that no registry gives.
    #[error("{}cannot pull the image {image:?}", .place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Pull {
        /// File, line, column and field; none on a command line.
        place: Option<String>,
        /// Its name.
        image: String,
        /// An image that is here and nearly called so.
        near: Option<String>,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
    /// An image that a registry does not take.
    #[error("cannot push the image {image:?}")]
    Push {
        /// Its name there.
        image: String,
        /// Why.
        #[source]
        source: Box<PushError>,
    },
    /// A directory of which no image can be made.
    #[error("cannot build an image of {directory}")]
    Build {
        /// As given.
        directory: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A directory that another tool makes an image from.
    #[error("{path} is not read: an image is made of the directory as it is",
        path = .path.display())]
    Recipe {
        /// The Dockerfile.
        path: PathBuf,
    },
    /// A password that a registry does not take, or a registry that takes none.
    #[error("cannot log in to {registry}")]
    Login {
        /// Its name.
        registry: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// Credentials that cannot be read.
    #[error("{name} cannot be used for registries")]
    Credentials {
        /// docker's configuration, or a Secret.
        name: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// An image that cannot be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

impl ImageError {
    /// Whether it is the user who wanted it to end.
    pub(super) fn is_interrupted(&self) -> bool {
        match self {
            Self::Load { source, .. } | Self::Pull { source, .. } => {
                matches!(**source, LoadError::Cancelled)
            }
            Self::Push { source, .. } => matches!(**source, PushError::Cancelled),
            Self::Build { source, .. } => {
                matches!(**source, BuildError::Load(LoadError::Cancelled))
            }
            _ => false,
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Absent { .. } => {
                "beluga pull IMAGE, or beluga load -i FILE (an OCI layout or the output of \
                 `docker save`); `beluga images` lists what is there"
            }
            Self::None { .. }
            | Self::Tag(TagError::Absent { .. })
            | Self::Remove(RemoveError::Absent { .. }) => "`beluga images` lists what is there",
            Self::Remove(RemoveError::InUse { users, .. }) => {
                let users = users.join(" ");
                return Some(format!(
                    "beluga delete pod {users}; --force is for pods that have ended"
                ));
            }
            Self::Reference(ReferenceError::Digest { .. }) => {
                "NAME@sha256:… with all 64 digits: `beluga images -o json` and a registry's page \
                 tell them; `beluga inspect` and `rmi` take the beginning of an image's ID"
            }
            Self::Load { source, .. } => return not_loadable(source),
            Self::Pull { .. } if self.is_interrupted() => {
                "pull again: what has come is kept for a week; `beluga prune -a` gives it back"
            }
            Self::Pull {
                near: Some(near), ..
            } => {
                return Some(format!("{near}, which is here, if you meant that"));
            }
            Self::Pull { source, .. } => {
                return Some(registry::of_pull(source).unwrap_or_else(|| {
                    "`beluga images` lists what is here, and `beluga load -i FILE` needs no \
                     registry"
                        .to_owned()
                }));
            }
            Self::Push { source, .. } => return registry::of_push(source),
            Self::Login { source, .. } => return registry::of_login(source),
            Self::Store(error) if error.is_damage() => {
                "`beluga images` names what is damaged: pull or load it again, or `beluga rmi` it"
            }
            Self::Recipe { path } => {
                let directory = path
                    .parent()
                    .map(|directory| directory.display().to_string());
                let directory = directory.filter(|text| !text.is_empty());
                let directory = directory.unwrap_or(".".into());
                return Some(format!(
                    "buildah build -t NAME:TAG {directory} && buildah push NAME:TAG \
                     oci-archive:image.tar:NAME:TAG && beluga load -i image.tar; \
                     --ignore-dockerfile packs the directory all the same"
                ));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What to do about a file that is no usable image.
fn not_loadable(error: &LoadError) -> Option<String> {
    let text = match error {
        LoadError::Read { path, source } => {
            return super::not_readable(&path.display().to_string(), source);
        }
        LoadError::Archive {
            source: TarError::Truncated { .. },
            ..
        } => "the file is not whole: make it or fetch it once more",
        LoadError::Packed { path, how } => {
            let tool = match *how {
                "bzip2" => "bzip2",
                _ => "xz",
            };
            return Some(format!("{tool} -dc {} | beluga load", path.display()));
        }
        LoadError::UnknownFormat { .. } | LoadError::Archive { .. } => {
            "`docker save -o FILE IMAGE` or `skopeo copy docker://IMAGE oci-archive:FILE` makes one"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// An image that a pod needs and the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentImage {
    /// Whose.
    pub container: String,
    /// As the manifest writes it.
    pub image: String,
    /// File, line, column and field; none on a command line.
    pub place: Option<String>,
    /// It may not be fetched, whatever happens.
    pub is_never: bool,
    /// An image that is here and nearly called so.
    pub near: Option<String>,
}

fn absent(images: &[AbsentImage]) -> String {
    let lines: Vec<String> = images
        .iter()
        .map(|one| {
            let place = one.place.as_ref().map(|place| format!("{place}: "));
            let place = place.unwrap_or_default();
            let near = one.near.as_ref();
            let near = near.map(|near| format!(" (did you mean {near}?)"));
            let near = near.unwrap_or_default();
            if one.is_never {
                // The kubelet's sentence.
                format!(
                    "{place}Container image {:?} is not present with pull policy of Never{near}",
                    one.image
                )
            } else {
                format!("{place}the image {:?} is not present{near}", one.image)
            }
        })
        .collect();
    match lines.as_slice() {
        [one] => one.clone(),
        _ => format!(
            "{} images are not present\n  {}",
            lines.len(),
            lines.join("\n  ")
        ),
    }
}
