//! The command line's words and habits, where no pod has to run for them.

use beluga_tests::{Beluga, SOON, run};

const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {colour: blue, conf: \"a=1\\nb=2\\n\"}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {pass: hidden}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
";

fn with_objects() -> Beluga {
    let beluga = Beluga::fresh();
    beluga.feed(["apply", "-f", "-"], OBJECTS.as_bytes()).ok();
    beluga
}

#[test]
fn several_types_are_listed_at_once_each_in_its_table() {
    let beluga = with_objects();
    let both = beluga.types("get cm,secret,deployments").ok();
    let lines: Vec<&str> = both.out.lines().collect();
    assert!(lines[0].starts_with("NAME                 DATA"), "{both}");
    assert!(lines[1].starts_with("configmap/settings   2"), "{both}");
    assert_eq!((lines[2], lines.len()), ("", 5), "{both}");
    let list = beluga.types("get cm,secret -o json").ok().json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    let unknown = beluga.types("get cm,services");
    unknown.fails(1, "\"services\"");
}

#[test]
fn objects_are_listed_by_name_and_by_label() {
    let beluga = with_objects();
    let names = beluga.types("get secret/login cm/settings -o name").ok();
    names.prints("secret/login\nconfigmap/settings\n");
    let one = beluga.types("get cm -l app=web -o name").ok();
    one.prints("configmap/settings\n");
    let labels = beluga.types("get cm --show-labels").ok();
    labels.tells(&["LABELS", "app=web"]);
}

#[test]
fn a_list_can_be_told_by_path_and_by_column() {
    let beluga = with_objects();
    let path = "jsonpath={range .items[*]}{.metadata.name} {.data.colour}{\"\\n\"}{end}";
    let told = beluga.run(["get", "cm", "-o", path]).ok();
    told.prints("settings blue\n");
    let columns = "custom-columns=WHAT:.metadata.name,APP:.metadata.labels.app";
    let told = beluga.run(["get", "cm,secret", "-o", columns]).ok();
    told.prints("WHAT       APP\nsettings   web\nlogin      <none>\n");
    let wrong = beluga.types("get cm -o 'jsonpath={.items'");
    wrong.fails(2, "unclosed action");
}

#[test]
fn every_type_that_can_be_listed_can_be_described() {
    let beluga = with_objects();
    let page = beluga.types("describe cm settings").ok();
    page.tells(&["app=web", "colour:          blue", "    b=2"]);
    let page = beluga.types("describe secret/login").ok();
    assert!(!page.out.contains("hidden"), "{page}");
    page.tells(&["Opaque", "pass:            6 bytes"]);
    let page = beluga.types("describe pvc data").ok();
    page.tells(&["Capacity:          16Mi", "Used By:           <none>"]);
    let none = beluga.types("describe cm,secret settings").exits(1);
    let none = none.says("settings");
    none.complains("secret \"settings\" not found");
    let empty = beluga.types("describe pods").ok();
    empty.complains("No resources found in default namespace.");
}

#[test]
fn delete_names_all_that_are_missing_and_deletes_the_others() {
    let beluga = with_objects();
    let ran = beluga.types("delete cm a settings b").exits(1);
    ran.prints("configmap \"settings\" deleted\n")
        .complains("configmap \"a\" not found")
        .complains("configmap \"b\" not found");
    let ran = beluga.types("delete pod/a job/b secret/login").exits(1);
    ran.prints("secret \"login\" deleted\n")
        .complains("pod \"a\" not found")
        .complains("job.batch \"b\" not found");
    let ran = beluga.types("rm a b");
    ran.fails(1, "pod \"b\" not found");
}

#[test]
fn delete_of_nothing_is_no_error_where_somebody_says_so() {
    let beluga = with_objects();
    let ran = beluga.types("delete pod a --ignore-not-found").ok();
    assert_eq!(ran.err, "");
    for line in ["delete pod --all", "delete cm -lx=y"] {
        beluga.types(line).ok().prints("No resources found\n");
    }
    let which = beluga.types("delete pods");
    which.fails(2, "which pods?");
}

#[test]
fn a_plan_is_shown_without_what_secrets_say() {
    let beluga = Beluga::with_busybox();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: shy}\nspec:\n  containers:\n  - name: main\n    \
               image: busybox\n    env:\n    - {name: PASS, valueFrom: {secretKeyRef: {name: login, key: pass}}}\n    \
               - {name: LINE, value: user=$(PASS)}\n    \
               - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}\n---\n";
    let text = pod.to_owned() + OBJECTS;
    let run = ["run", "--dry-run=client", "-f", "-"];
    let ran = beluga.feed(run, text.as_bytes()).ok();
    let ran = ran.tells(&[
        "PASS=*** (6 bytes)",
        "LINE=user=*** (6 bytes)",
        "COLOUR=blue",
    ]);
    assert!(!ran.out.contains("hidden"), "{ran}");
}

#[test]
fn flags_of_run_are_refused_as_flags() {
    let beluga = Beluga::fresh();
    let ran = beluga
        .run(["run", "-m", "1g", "--cpus", "1,5", "busybox"])
        .exits(2);
    let ran = ran.complains("--memory: \"g\" in \"1g\" is not a unit");
    ran.complains("(did you mean 1Gi?)")
        .complains("--cpus: ")
        .complains("(did you mean 1.5?)");
    let ran = beluga
        .run(["run", "--name", "No", "busybox"])
        .exits(2)
        .complains("--name: ");
    assert!(!ran.err.contains("the command line:"), "{ran}");
}

/// What bash offers for the last of these words.
fn completed(beluga: &Beluga, words: &str) -> String {
    let line = format!(
        "source <(beluga completion bash); COMP_WORDS=(beluga {words}); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _beluga_names beluga \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
    );
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &line])
        .env("BELUGA_ROOT", beluga.root())
        .env("BELUGA_STATE", beluga.state());
    run(&mut command, SOON).ok().text().to_owned()
}

#[test]
fn completion_offers_names_of_what_is_there() {
    let beluga = with_objects();
    assert_eq!(completed(&beluga, "describe cm ''"), "settings");
    assert_eq!(completed(&beluga, "delete secret/l"), "secret/login");
    // Where there are no names, what clap knows stands.
    assert_eq!(completed(&beluga, "get pvc -n other --no"), "--no-headers");
    assert_eq!(completed(&beluga, "describe --nam"), "--namespace");
    assert_eq!(completed(&beluga, "__"), "");
}
