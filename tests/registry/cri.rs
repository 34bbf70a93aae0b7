//! ImageService of `beluga-cri`, with Debian's registry.

use beluga_tests::Beluga;
use beluga_tests::cri::{
    AuthConfig, Cri, Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest,
    PullImageRequest, RemoveImageRequest, Status,
};
use beluga_tests::registry::{Registry, Wants};
use std::thread;

fn spec(image: &str) -> Option<ImageSpec> {
    let image = image.to_owned();
    Some(ImageSpec {
        image,
        ..ImageSpec::default()
    })
}

fn pull(cri: &Cri, image: &str, auth: Option<AuthConfig>) -> Result<String, Status> {
    let request = PullImageRequest {
        image: spec(image),
        auth,
        sandbox_config: None,
    };
    let pulled = cri.call(async { cri.images().pull_image(request).await });
    pulled.map(|answer| answer.image_ref)
}

fn status(cri: &Cri, image: &str) -> Option<Image> {
    let request = ImageStatusRequest {
        image: spec(image),
        verbose: false,
    };
    let asked = cri.call(async { cri.images().image_status(request).await });
    asked.expect("a status").image
}

fn list(cri: &Cri) -> Vec<Image> {
    let request = ListImagesRequest::default();
    let listed = cri.call(async { cri.images().list_images(request).await });
    listed.expect("a list").images
}

fn remove(cri: &Cri, image: &str) {
    let image = spec(image);
    let request = RemoveImageRequest { image };
    let removed = cri.call(async { cri.images().remove_image(request).await });
    removed.expect("removed");
}

#[test]
fn an_image_is_pulled_with_the_credentials_of_the_request_and_removed_with_all_its_names() {
    let password = true;
    let registry = Registry::start(Wants {
        password,
        ..Wants::default()
    });
    registry.push("busybox", "team/busybox:1", "");
    registry.push("busybox", "team/busybox:2", "");
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    let (one, two) = (
        registry.name("team/busybox:1"),
        registry.name("team/busybox:2"),
    );
    let refused = pull(&cri, &one, None).expect_err("without credentials");
    assert!(refused.message().contains("UNAUTHORIZED"), "{refused}");
    let auth = || {
        Some(AuthConfig {
            username: "user".to_owned(),
            password: "pass".to_owned(),
            ..AuthConfig::default()
        })
    };
    let id = pull(&cri, &one, auth()).expect("pulled");
    assert_eq!(pull(&cri, &two, auth()).expect("pulled"), id);
    let image = status(&cri, &one).expect("it is there");
    assert_eq!(image.repo_tags, [one.as_str(), two.as_str()]);
    assert!(
        image.repo_digests[0].contains("team/busybox@sha256:"),
        "{image:?}"
    );
    assert!(image.size > 0 && image.id == id);
    assert_eq!(list(&cri), [image]);
    remove(&cri, &id);
    assert_eq!((status(&cri, &one), list(&cri).len()), (None, 0));
}

#[test]
fn five_may_remove_an_image_at_the_same_time_and_the_place_is_accounted_for() {
    let beluga = Beluga::with_busybox();
    let cri = Cri::start(&beluga);
    let used = || {
        let request = ImageFsInfoRequest::default();
        let info = cri.call(async { cri.images().image_fs_info(request).await });
        let found = info.expect("an account").image_filesystems.remove(0);
        let root = found.fs_id.expect("a place").mountpoint;
        assert_eq!(root, beluga.root().join("images").display().to_string());
        assert!(found.inodes_used.expect("inodes").value > 0);
        found.used_bytes.expect("bytes").value
    };
    let before = used();
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| remove(&cri, "busybox"));
        }
    });
    assert!(list(&cri).is_empty());
    assert!(used() < before, "{} of {before}", used());
}
