//! `--dry-run` of manifests: the plan of each pod, and what would become of objects.

use super::{CliError, manifest, objects, yaml};
use crate::engine;
use crate::objects::{self as kept, Applied};
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{ConfigObject, Document, Manifest, PodSpec, Workload};
use crate::workload;
use std::collections::BTreeMap;

/// Prints the plan of each pod, and of the first pod of each workload; `resolved` are
/// the objects of each, pods first.
pub fn show(
    settings: &Settings,
    read: &Manifest,
    resolved: &[Objects],
    images: &BTreeMap<String, ImageFacts>,
) -> Result<(), CliError> {
    let (of_pods, of_workloads) = resolved.split_at(read.pods.len());
    let mut shown = 0;
    let mut begin = || {
        shown += 1;
        if shown > 1 {
            say!("---");
        }
    };
    for (document, objects) in read.pods.iter().zip(of_pods) {
        begin();
        plan(settings, (&document.spec, objects), images, document)?;
    }
    for (workload, objects) in read.workloads.iter().zip(of_workloads) {
        begin();
        say!("# {}", how_many(workload));
        if let Some((pod, objects)) = workload::first(settings, workload, objects)? {
            plan(settings, (&pod.spec, &objects), images, &workload.template)?;
        }
    }
    Ok(())
}

/// Prints the plan of one, without what Secrets say; `written` is where it stands.
fn plan(
    settings: &Settings,
    (spec, objects): (&PodSpec, &Objects),
    images: &BTreeMap<String, ImageFacts>,
    written: &Document,
) -> Result<(), CliError> {
    let preview = |objects: &Objects| {
        let plan = engine::preview(settings, spec, images, objects);
        plan.map_err(|error| manifest::placed(written, error))
    };
    // Whatever is wrong with what they really say is told first.
    preview(objects)?;
    put!("{}", yaml(&preview(&objects.veiled())?)?);
    Ok(())
}

/// What the plan of one pod stands for.
fn how_many(workload: &Workload) -> String {
    let name = format!("{}/{}", workload.kind, workload.name);
    match (workload::pods_at_once(workload), &workload.ordinals) {
        (0, _) => format!("{name}: no pods"),
        (1, _) => format!("{name}: one pod"),
        (count, Some(ordinals)) => {
            let last = ordinals.first.saturating_add(count - 1);
            format!(
                "{name}: the first of {count} pods, to {}-{last}",
                workload.name
            )
        }
        (count, None) => format!("{name}: one of {count} pods at a time, all alike"),
    }
}

/// Says what would become of the objects of a manifest. Errors where one could not
/// take the place of the one that is kept.
pub fn show_objects(settings: &Settings, fresh: &[ConfigObject]) -> Result<(), CliError> {
    objects::admit(settings, fresh)?;
    for object in fresh {
        let (kind, name) = (object.kind, &object.name);
        let applied = match kept::read(settings, &object.namespace, kind, name)? {
            None => Applied::Created,
            Some(present) if present.object == *object => Applied::Unchanged,
            Some(_) => Applied::Configured,
        };
        say!("# {kind}/{name} {applied} (dry run)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plan_says_for_how_many_pods_it_stands() {
        let head = |text: &str| {
            let read = crate::spec::read("m.yaml", text).unwrap();
            how_many(&read.workloads[0])
        };
        let apps = |kind: &str, more: &str| {
            head(&format!(
                "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: w}}, spec: {{{more}, \
                 selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, \
                 spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
            ))
        };
        assert_eq!(
            apps("Deployment", "replicas: 0"),
            "deployment.apps/w: no pods"
        );
        assert_eq!(
            apps("Deployment", "replicas: 1"),
            "deployment.apps/w: one pod"
        );
        assert_eq!(
            apps("Deployment", "replicas: 3"),
            "deployment.apps/w: one of 3 pods at a time, all alike"
        );
        assert_eq!(
            apps("StatefulSet", "replicas: 3, ordinals: {start: 5}"),
            "statefulset.apps/w: the first of 3 pods, to w-7"
        );
        let job = |more: &str| {
            head(&format!(
                "{{apiVersion: batch/v1, kind: Job, metadata: {{name: w}}, spec: {{{more}, \
                 template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}"
            ))
        };
        assert_eq!(job("suspend: true"), "job.batch/w: no pods");
        assert_eq!(job("completions: 0"), "job.batch/w: no pods");
        assert_eq!(
            job("completions: 2, parallelism: 5"),
            "job.batch/w: one of 2 pods at a time, all alike"
        );
    }
}
