//! The shortest stories: is anything there at all?

use beluga_tests::shared;

#[test]
fn the_version_is_printed() {
    shared().run(["version"]).ok().says("0.1.0");
}
