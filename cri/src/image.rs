//! ImageService: the store's images, by the interface's names for them.

use crate::error::{CallError, missing};
use beluga_image::{Cancel, Digest, Image, Keyring, PullOptions, Reference, Registry, Store};
use beluga_runtime::engine;
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use k8s_cri::v1 as cri;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tonic::{Request, Response, Status};

/// Stops a pull that is under way when it is dropped.
struct StopPull(Cancel);

impl Drop for StopPull {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The service.
#[derive(Debug, Clone)]
pub struct Images {
    settings: Settings,
}

impl Images {
    /// The images of an installation.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Does what waits for disks and registries elsewhere.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Settings, &Store) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let settings = self.settings.clone();
        let done = tokio::task::spawn_blocking(move || {
            let store = Store::open(settings.images())?;
            work(&settings, &store)
        });
        match done.await {
            Ok(done) => done,
            Err(broken) => Err(CallError::State {
                message: broken.to_string(),
            }),
        }
    }

    async fn remove(&self, name: String) -> Result<(), CallError> {
        let in_use = engine::image_users(&self.settings, false).await?;
        self.work(move |_, store| remove(store, &name, &in_use))
            .await
    }
}

#[tonic::async_trait]
impl cri::image_service_server::ImageService for Images {
    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> Result<Response<cri::ListImagesResponse>, Status> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let wanted = filter
            .map(|image| image.image)
            .filter(|one| !one.is_empty());
        let list = move |_: &Settings, store: &Store| {
            let found = match wanted {
                Some(name) => store.find(&name)?.into_iter().collect(),
                None => store.list()?,
            };
            Ok(together(found))
        };
        let images = self.work(list).await?;
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let found = self.work(move |_, store| all_of(store, &name)).await?;
        let info = found.first().filter(|_| request.verbose).map(info);
        Ok(Response::new(cri::ImageStatusResponse {
            image: together(found).pop(),
            info: info.unwrap_or_default(),
        }))
    }

    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> Result<Response<cri::PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let options = PullOptions::default();
        // A client that has gone or whose time is up wants it no more.
        let _stop = StopPull(options.cancel.clone());
        let pulled = self.work(move |settings, store| {
            let name: Reference = name.parse()?;
            let registry = registry(settings, &name, request.auth.as_ref())?;
            let pulled = store.pull(&name, &registry, &options, &mut |_| ());
            let pulled = pulled.map_err(|source| CallError::Pull {
                image: name.to_string(),
                source: Box::new(source),
            })?;
            Ok(pulled.image.id.to_string())
        });
        let image_ref = pulled.await?;
        Ok(Response::new(cri::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        self.remove(named(request.into_inner().image)?).await?;
        Ok(Response::new(cri::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        let found = self.work(|settings, _| {
            let usage = |path: &Path| vec![usage(path)];
            Ok(cri::ImageFsInfoResponse {
                image_filesystems: usage(&settings.images()),
                container_filesystems: usage(&settings.pods()),
            })
        });
        Ok(Response::new(found.await?))
    }
}

fn named(image: Option<cri::ImageSpec>) -> Result<String, CallError> {
    let name = image.map(|image| image.image);
    name.filter(|name| !name.is_empty())
        .ok_or_else(|| missing("image"))
}

/// The images that a name or identifier means: one under several manifests is one
/// image to this interface.
fn all_of(store: &Store, name: &str) -> Result<Vec<Image>, CallError> {
    let Some(found) = store.find(name)? else {
        return Ok(Vec::new());
    };
    let mut all = store.list()?;
    all.retain(|image| image.id == found.id);
    Ok(all)
}

/// Removes an image with all its names. One that is not there is no error.
fn remove(
    store: &Store,
    name: &str,
    in_use: &BTreeMap<Digest, Vec<String>>,
) -> Result<(), CallError> {
    let removal = store.removal()?;
    for image in all_of(store, name)? {
        removal.remove(&image.id.to_string(), in_use, true)?;
    }
    Ok(())
}

/// Images as the interface shows them: each identifier once.
fn together(images: Vec<Image>) -> Vec<cri::Image> {
    let mut shown: Vec<cri::Image> = Vec::new();
    for image in images {
        let one = show(&image);
        match shown.iter_mut().find(|known| known.id == one.id) {
            Some(known) => {
                known.repo_tags.extend(one.repo_tags);
                known.repo_digests.extend(one.repo_digests);
            }
            None => shown.push(one),
        }
    }
    shown
}

fn show(image: &Image) -> cri::Image {
    let user = image.config.user.as_deref().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    let mut digests: Vec<String> = image.digests.iter().map(ToString::to_string).collect();
    for name in &image.names {
        let digest = name.with_digest(image.manifest_digest).to_string();
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.names.iter().map(ToString::to_string).collect(),
        repo_digests: digests,
        size: image.size,
        uid: uid.map(|value| cri::Int64Value { value }),
        username: uid.map_or_else(|| user.to_owned(), |_| String::new()),
        spec: None,
        pinned: false,
    }
}

fn info(image: &Image) -> HashMap<String, String> {
    let config = &image.config;
    let shown = serde_json::json!({
        "platform": config.platform.to_string(),
        "created": config.created,
        "entrypoint": config.entrypoint,
        "cmd": config.cmd,
        "env": config.env,
        "workingDir": config.workdir,
        "user": config.user,
        "labels": config.labels,
        "manifest": image.manifest_digest.to_string(),
    });
    HashMap::from([("info".to_owned(), shown.to_string())])
}

/// How registries are reached for one pull, with the credentials that came with it.
fn registry(
    settings: &Settings,
    name: &Reference,
    auth: Option<&cri::AuthConfig>,
) -> Result<Registry, CallError> {
    let mut keyring = Keyring::default();
    if let Some(auth) = auth {
        let fields = [
            ("username", &auth.username),
            ("password", &auth.password),
            ("auth", &auth.auth),
            ("identitytoken", &auth.identity_token),
            ("registrytoken", &auth.registry_token),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let entry: BTreeMap<&str, &String> = given.collect();
        // Those of another registry are of no use here, and none of its business.
        let server = match auth.server_address.as_str() {
            "" => name.registry(),
            server => server,
        };
        let config = serde_json::json!({"auths": {server: entry}}).to_string();
        keyring.add_docker_config_json("credentials of the request", config.as_bytes())?;
    }
    Ok(Registry {
        certs_dirs: settings.certs_dirs.clone(),
        keyring,
    })
}

fn usage(path: &Path) -> cri::FilesystemUsage {
    let (bytes, inodes) = beluga_image::footprint(path);
    let value = |value| Some(cri::UInt64Value { value });
    cri::FilesystemUsage {
        timestamp: i64::try_from(now().unix).unwrap_or(i64::MAX),
        fs_id: Some(cri::FilesystemIdentifier {
            mountpoint: path.display().to_string(),
        }),
        used_bytes: value(bytes),
        inodes_used: value(inodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_registry_that_is_asked() {
        let settings = Settings::new(None, None).unwrap();
        let name: Reference = "registry.example:5000/a/b:1".parse().unwrap();
        let auth = cri::AuthConfig {
            username: "u".into(),
            password: "p".into(),
            ..cri::AuthConfig::default()
        };
        let keys = |auth: &cri::AuthConfig| {
            let keyring = registry(&settings, &name, Some(auth)).unwrap().keyring;
            format!("{keyring:?}")
        };
        assert!(keys(&auth).contains("registry.example:5000"));
        let other = cri::AuthConfig {
            server_address: "https://other.example".into(),
            ..auth
        };
        assert!(!keys(&other).contains("registry.example:5000"));
    }

    #[test]
    fn an_image_without_a_name_is_refused() {
        let status = Status::from(named(Some(cri::ImageSpec::default())).unwrap_err());
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "image: required");
    }
}
