//! The project at the top level is one that wokwi-cli takes, and names the firmware that ci/firmware.sh leaves.

use super::project::{self, Project};
use std::path::Path;

#[test]
fn the_project_at_the_top_level_holds_together() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let project = Project::read(root, None).unwrap();
    assert_eq!(project.firmware.as_deref(), Some(root.join("firmware/target/esp32c3/flasher_args.json").as_path()));
    let settings = std::fs::read_to_string(root.join(project::SETTINGS)).unwrap();
    let script = std::fs::read_to_string(root.join("ci/firmware.sh")).unwrap();
    assert!(settings.contains("elf = 'firmware/target/esp32c3.elf'") && script.contains("target/$board"));
    assert!(root.join("firmware/boards/esp32c3/Cargo.toml").is_file());
    let text = std::fs::read_to_string(root.join(project::DIAGRAM)).unwrap();
    let diagram: serde_json::Value = serde_json::from_str(&text).unwrap();
    let parts: Vec<_> = diagram["parts"].as_array().unwrap().iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(parts, ["board-esp32-c3-devkitm-1"]);
    let id = diagram["parts"][0]["id"].as_str().unwrap();
    // Lint rules: every wire ends at a pin of a part, and none is double.
    let mut ends: Vec<&str> = Vec::new();
    for wire in diagram["connections"].as_array().unwrap() {
        for end in [&wire[0], &wire[1]].map(|end| end.as_str().unwrap()) {
            let (part, pin) = end.split_once(':').unwrap();
            assert!((part == id || part == "$serialMonitor") && ["TX", "RX"].contains(&pin) && !ends.contains(&end), "{end}");
            ends.push(end);
        }
    }
    assert_eq!(ends.len(), 4, "the console is wired both ways");
    // As large as the partition table says.
    assert_eq!(diagram["parts"][0]["attrs"]["flashSize"], "4");
}
