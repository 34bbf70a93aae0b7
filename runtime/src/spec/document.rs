//! One pod of a manifest, with the places where what it says is written.

use super::check::Check;
use super::{
    Issue, ManifestError, PodSpec, Position, Reference, Resources, below, cluster, defaults,
    ephemeral, pod, sysctl,
};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};

/// One pod of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// The whole Kubernetes object with its defaults filled in, for `get -o yaml`.
    pub pod: Box<Pod>,
    /// What Beluga makes of it.
    pub spec: PodSpec,
    /// What the user should know; each one sentence.
    pub warnings: Vec<String>,
    /// For messages.
    pub source_name: String,
    /// The objects that must be there before it is started.
    pub references: Vec<Reference>,
    /// Where each container's image is written, by the container's name:
    /// `9:12: spec.containers[0].image`.
    pub image_places: BTreeMap<String, String>,
    /// Containers, and `volume NAME`, whose `Always` was written and is no default.
    pub always_pulled: BTreeSet<String>,
    /// Where each of the pod's volumes is written, in their order, and its path.
    pub volume_places: Vec<(Position, String)>,
    /// Where each of its kernel parameters is written, by their names with dots.
    pub sysctl_places: BTreeMap<String, (Position, String)>,
    /// Where the largest amount of CPU and of memory is written, for a pod that
    /// does not fit.
    pub size_places: [(Position, String); 2],
    /// Where the pod is in its document, and where each of its fields is written, by its
    /// path in the pod.
    pub places: (String, BTreeMap<String, Position>),
    /// What a pod may have and cannot be made with.
    pub not_on_create: Vec<Issue>,
}

impl Document {
    /// Errors with what no pod can be made with.
    pub fn can_be_created(&self) -> Result<(), ManifestError> {
        if self.not_on_create.is_empty() {
            return Ok(());
        }
        Err(ManifestError {
            source_name: self.source_name.clone(),
            issues: self.not_on_create.clone(),
        })
    }

    /// What is wrong with the first of these fields that is written, or with what is
    /// nearest to it; with the pod where no field is named.
    #[must_use]
    pub fn refused(&self, fields: &[String], message: String) -> ManifestError {
        let (_, places) = &self.places;
        let written = fields.iter().find(|field| places.contains_key(*field));
        let field = written.or(fields.first()).map_or("", String::as_str);
        let (at, path) = self.nearest(field);
        ManifestError {
            source_name: self.source_name.clone(),
            issues: vec![Issue {
                at,
                path,
                message,
                hint: None,
            }],
        }
    }

    /// Where a field of the pod is written, or what is nearest to it, and the field's path in
    /// the document.
    #[must_use]
    pub fn nearest(&self, field: &str) -> (Position, String) {
        let (root, places) = &self.places;
        let mut near = field;
        let at = loop {
            if let Some(at) = places.get(near) {
                break *at;
            }
            near = near.rfind(['.', '[']).map_or("", |end| &near[..end]);
            if near.is_empty() {
                let first = Position { line: 1, column: 1 };
                break places.get("").copied().unwrap_or(first);
            }
        };
        let path = if field.is_empty() {
            String::new()
        } else {
            below(root, field)
        };
        (at, path)
    }

    /// Its places are those of an item of a list from here on.
    pub(super) fn stand_in(&mut self, inside: &str) {
        let places = self.volume_places.iter_mut();
        let places = places.chain(self.sysctl_places.values_mut());
        let places = places.chain(&mut self.size_places).map(|(_, path)| path);
        let references = self.references.iter_mut().map(|one| &mut one.path);
        self.places.0 = below(inside, &self.places.0);
        let issues = self.not_on_create.iter_mut().map(|one| &mut one.path);
        for path in places.chain(references).chain(issues) {
            *path = below(inside, path);
        }
        for place in self.image_places.values_mut() {
            // `9:12: spec.containers[0].image`
            if let Some((at, path)) = place.split_once(": ") {
                *place = format!("{at}: {}", below(inside, path));
            }
        }
    }
}

/// Converts the pod that the check stands at. The warnings stay in the check.
pub(super) fn pod_document(mut pod: Pod, check: &mut Check<'_>) -> Document {
    cluster::without_token(&mut pod, check);
    let always_pulled = always_pulled(&pod);
    defaults::apply(&mut pod);
    let spec = pod::convert(&pod, check);
    let forbidden = || {
        let (at, path) = check.position(ephemeral::FIELD);
        Issue {
            at,
            path,
            // The sentence of an API server.
            message: "cannot be set on create".to_owned(),
            hint: Some("`beluga debug` adds one to a running pod".to_owned()),
        }
    };
    let is_made_with = !spec.ephemeral_containers.is_empty();
    Document {
        not_on_create: is_made_with.then(forbidden).into_iter().collect(),
        places: (check.full(""), check.places()),
        references: check.references(),
        image_places: image_places(&spec, check),
        always_pulled,
        volume_places: (0..spec.volumes.len())
            .map(|at| check.position(&format!("spec.volumes[{at}]")))
            .collect(),
        sysctl_places: sysctl::places(&pod, check),
        size_places: ["cpu", "memory"].map(|what| size_place(&spec, what, check)),
        pod: Box::new(pod),
        spec,
        warnings: Vec::new(),
        source_name: String::new(),
    }
}

/// Where the largest amount that a pod asks for is written.
fn size_place(spec: &PodSpec, what: &str, check: &Check<'_>) -> (Position, String) {
    let amount = |resources: &Resources| match what {
        "cpu" => (resources.cpu_limit_milli, resources.cpu_request_milli),
        _ => (resources.memory_limit, resources.memory_request),
    };
    let lists = [
        ("spec.initContainers", &spec.init_containers),
        ("spec.containers", &spec.containers),
    ];
    let all = lists.into_iter().flat_map(|(list, containers)| {
        let numbered = containers.iter().enumerate();
        numbered.map(move |(at, one)| (format!("{list}[{at}]"), &one.resources))
    });
    let own = [("spec".to_owned(), &spec.resources)];
    let largest = |all: &mut dyn Iterator<Item = (String, &Resources)>| {
        all.filter_map(|(base, resources)| {
            let (limit, request) = amount(resources);
            let field = if limit.is_some() {
                "limits"
            } else {
                "requests"
            };
            Some((
                limit.or(request)?,
                format!("{base}.resources.{field}.{what}"),
            ))
        })
        .max()
    };
    // What the pod says for all of its containers stands in place of their sum.
    let found = largest(&mut own.into_iter()).or_else(|| largest(&mut { all }));
    check.position(found.as_ref().map_or("spec", |(_, path)| path))
}

fn image_places(spec: &PodSpec, check: &Check<'_>) -> BTreeMap<String, String> {
    let lists = [
        ("spec.initContainers", &spec.init_containers),
        ("spec.containers", &spec.containers),
        (ephemeral::FIELD, &spec.ephemeral_containers),
    ];
    let all = lists.into_iter().flat_map(|(list, containers)| {
        let numbered = containers.iter().enumerate();
        numbered.map(move |(at, container)| (format!("{list}[{at}].image"), container))
    });
    let containers = all.map(|(path, container)| (container.name.clone(), check.place(&path)));
    let volumes = spec.volumes.iter().enumerate().map(|(at, volume)| {
        let path = format!("spec.volumes[{at}].image.reference");
        (format!("volume {}", volume.name), check.place(&path))
    });
    containers.chain(volumes).collect()
}

/// The containers and volumes that say `Always` themselves.
fn always_pulled(pod: &Pod) -> BTreeSet<String> {
    let Some(spec) = &pod.spec else {
        return BTreeSet::new();
    };
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let containers = all.filter(|one| one.image_pull_policy.as_deref() == Some("Always"));
    let volumes = spec.volumes.iter().flatten().filter(|one| {
        let image = one.image.as_ref();
        image.and_then(|image| image.pull_policy.as_deref()) == Some("Always")
    });
    let containers = containers.map(|one| one.name.clone());
    let volumes = volumes.map(|one| format!("volume {}", one.name));
    containers.chain(volumes).collect()
}
