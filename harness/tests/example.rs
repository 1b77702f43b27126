//! The example of somebody's repository, and the action for their workflows, stay true.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example() -> PathBuf {
    package().join("examples/firmware-repo")
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn yaml(path: impl AsRef<Path>) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap()
}

/// What the runner of a workflow sets must not reach what is run here.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "HARNESS_TRACES", "HARNESS_BROKER"] {
        command.env_remove(name);
    }
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn its_manifest_takes_this_package_as_a_dev_dependency() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(example())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["workspace_root"], example().to_str().unwrap(), "a workspace of its own");
    let firmware = &told["packages"][0];
    let harness = firmware["dependencies"].as_array().unwrap().iter().find(|dependency| dependency["name"] == "harness").unwrap();
    let path = Path::new(harness["path"].as_str().unwrap()).canonicalize().unwrap();
    assert_eq!((harness["kind"].as_str(), path), (Some("dev"), package().canonicalize().unwrap()));
    let trials = firmware["targets"].as_array().unwrap().iter().find(|target| target["name"] == "trials").unwrap();
    assert_eq!(trials["kind"][0], "test");
    // `trials` owns its `main`: without this line cargo would build a test of nothing.
    assert!(text(example().join("Cargo.toml")).contains("[[test]]\nname = \"trials\"\nharness = false\n"));
}

#[test]
fn its_test_is_the_one_that_is_documented() {
    let source = text(package().join("src/trials.rs"));
    let documented: Vec<&str> = source
        .lines()
        .skip_while(|line| *line != "/// ```no_run")
        .skip(1)
        .map_while(|line| line.strip_prefix("/// ").filter(|code| *code != "```"))
        .filter(|code| !code.starts_with("//"))
        .collect();
    let shown = text(example().join("tests/trials.rs"));
    let code: Vec<&str> = shown.lines().filter(|line| !line.is_empty() && !line.starts_with("//!")).collect();
    assert!(!code.is_empty());
    assert_eq!(code, documented);
}

#[test]
fn its_scenarios_pass_through_the_action() {
    let home = tempfile::tempdir().unwrap();
    let bin = home.path().join("harness-root/bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_harness"), bin.join("harness")).unwrap();
    // Nothing of an input is read by a shell: neither what would be a command, nor a pattern, nor a blank, nor a dash.
    let odd = "-$(touch made) `touch made`; touch made & * 'x\"";
    symlink(example().join("scenarios"), home.path().join(odd)).unwrap();
    let run = |broker: &str| {
        command(&package().join("../ci/action.sh"))
            .arg("run")
            .current_dir(home.path())
            .env("RUNNER_TEMP", home.path())
            .envs([
                ("INPUT_BROKER", broker),
                ("INPUT_PATHS", &format!("\n  {odd}\n\n")),
                ("INPUT_ARGS", "--filter\nfirst boot\n--filter=-"),
            ])
            .envs([("INPUT_JUNIT", "$HOME junit.xml"), ("INPUT_TRACES", "the traces")])
            .output()
            .unwrap()
    };
    let output = run("auto");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("3 trials"), "{}", said(&output));
    assert_eq!(text(home.path().join("$HOME junit.xml")).matches("<testcase").count(), 3);
    assert_eq!(fs::read_dir(home.path().join("the traces")).unwrap().count(), 3);
    assert!(!home.path().join("made").exists());
    // What the harness ends with is what the step ends with.
    assert_eq!(run("auto; true").status.code(), Some(2));
}

#[test]
fn the_action_gives_inputs_to_a_script_and_never_to_a_shell() {
    let action = yaml(package().join("../ci/action.yml"));
    let script = text(package().join("../ci/action.sh"));
    let whole = text(package().join("../ci/action.yml"));
    for (input, about) in action["inputs"].as_object().unwrap() {
        assert!(about["description"].is_string() && about["default"].is_string(), "{input}");
        assert!(whole.contains(&format!("${{{{ inputs.{input} }}}}")), "nothing reads the input {input}");
    }
    for step in action["runs"]["steps"].as_array().unwrap() {
        if let Some(run) = step["run"].as_str() {
            assert!(step["shell"] == "bash" && !run.contains("${{"), "{step}");
        }
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            let input = name.strip_prefix("INPUT_").unwrap().to_lowercase();
            assert_eq!(value.as_str().unwrap(), format!("${{{{ inputs.{input} }}}}"));
            assert!(script.contains(name), "the script does not read {name}");
        }
    }
    let workflow = yaml(package().join("../.github/workflows/ci.yml"));
    let used = &workflow["jobs"]["action"]["steps"][1];
    assert_eq!(used["uses"], "./ci");
    for (input, value) in used["with"].as_object().unwrap() {
        assert!(action["inputs"][input].is_object(), "the action has no input {input}");
        assert!(input != "paths" || package().join("..").join(value.as_str().unwrap()).is_dir(), "{value}");
    }
}
