//! A pod's places in its networks, which must be known before it is planned.

use super::EngineError;
use crate::cni;
use crate::host::{self, HostError, carry, network, ordinary, pasta};
use crate::plan::{self, Carried};
use crate::settings::Settings;
use crate::spec::PodSpec;
use beluga_proto::PodUid;

/// Places that were claimed, or would be.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In a network of our own.
    pub(super) native: Option<network::Place>,
    /// In those of others.
    others: Option<Others>,
}

#[derive(Debug)]
enum Others {
    Held(cni::Held),
    Previewed(Carried),
    /// In a namespace that is not ours to take back, or that the pod's supervisor makes.
    Handed(Carried),
}

impl Places {
    /// Cards that others have made.
    pub(super) fn carried(&self) -> Option<&Carried> {
        self.others.as_ref().map(|others| match others {
            Others::Held(held) => &held.carried,
            Others::Previewed(carried) | Others::Handed(carried) => carried,
        })
    }
}

/// Claims a pod's places. On an error some may be claimed: [`release`] is next.
pub(super) fn claim(
    settings: &Settings,
    uid: &PodUid,
    boot_id: &str,
    (name, spec): (&str, &PodSpec),
) -> Result<Places, EngineError> {
    let mut places = Places::default();
    if settings.is_ordinary {
        let places = of_ordinary(settings, uid, spec)?;
        if places.others.is_some() {
            ordinary::can_have_network().map_err(HostError::from)?;
        }
        return Ok(places);
    }
    if let Some(native) = spec.native_network() {
        let wanted = network::Wanted {
            network: native.to_owned(),
            names: names(spec, name),
            ports: spec.published(),
        };
        let claimed = network::claim(settings, uid, boot_id, wanted);
        places.native = Some(claimed.map_err(HostError::from)?);
    }
    if !spec.cni_networks().is_empty() {
        let held = cni::add(settings, cni::Wanted { uid, name, spec });
        places.others = Some(Others::Held(held.map_err(HostError::from)?));
    }
    if let Some(netns) = spec.sandbox.iter().find_map(|one| one.netns.as_ref()) {
        let cards = carry::survey_all(netns).map_err(cni::CniError::from);
        places.others = Some(Others::Handed(Carried {
            cards: cards.map_err(HostError::from)?,
            netns: netns.clone(),
            ..Carried::default()
        }));
    }
    Ok(places)
}

/// The places that a pod would get; claims nothing.
pub(super) fn preview(
    settings: &Settings,
    uid: &PodUid,
    (name, spec): (&str, &PodSpec),
) -> Result<Places, EngineError> {
    let mut places = Places::default();
    if settings.is_ordinary {
        return of_ordinary(settings, uid, spec);
    }
    if let Some(native) = spec.native_network() {
        let previewed = network::preview(settings, native, &host::boot_id());
        places.native = Some(previewed.map_err(HostError::from)?);
    }
    if !spec.cni_networks().is_empty() {
        let previewed = cni::preview(settings, cni::Wanted { uid, name, spec });
        places.others = Some(Others::Previewed(previewed.map_err(HostError::from)?));
    }
    Ok(places)
}

/// The place of an ordinary user's pod, which nobody shares and nobody claims.
fn of_ordinary(settings: &Settings, uid: &PodUid, spec: &PodSpec) -> Result<Places, EngineError> {
    ordinary::admit(settings, spec).map_err(HostError::from)?;
    let network = spec.native_network();
    Ok(Places {
        native: None,
        others: network.map(|_| Others::Handed(pasta::place(settings, uid))),
    })
}

/// Gives a pod's places back. What cannot be given back is `gc`'s to find.
pub(super) fn release(settings: &Settings, uid: &PodUid, boot_id: &str) {
    let _ = network::release(settings, uid, boot_id);
    let _ = cni::release(settings, uid);
}

/// How other pods find it.
fn names(spec: &PodSpec, name: &str) -> network::PodNames {
    network::PodNames {
        namespace: spec.namespace.clone(),
        name: name.to_owned(),
        hostname: plan::short_name(spec, name),
        subdomain: spec.subdomain.clone(),
    }
}
