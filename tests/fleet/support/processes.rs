use std::process::Command;

use crate::servers::{Process, eventually};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn a_process_tells_its_port_and_is_read_to_its_end() {
    let lines = "echo 127.0.0.1:1 >&2; echo at http://127.0.0.1:$PORT/; seq 100000 >&2";
    let mut command = shell(&format!("{lines}; exec sleep 600"));
    command.env("PORT", "4711");
    let process = Process::start(command).await;
    assert_eq!(process.port(), 4711);
    let last = async || process.output().contains("100000\n").then_some(()).ok_or(process.output());
    eventually(last).await;
    process.child().kill9();
    assert!(process.child().has_ended());
}

#[tokio::test]
async fn a_process_does_nothing_while_it_is_paused() {
    let count = "echo 127.0.0.1:1; while true; do i=$((i + 1)); echo $i; done";
    let process = Process::start(shell(count)).await;
    process.child().pause();
    // Until what it printed before is read.
    let mut before = None;
    let stopped = eventually(async || {
        let now = process.output();
        if before.replace(now.clone()) == Some(now.clone()) {
            Ok(now)
        } else {
            Err("it goes on".into())
        }
    })
    .await;
    process.child().resume();
    let goes_on = async || (process.output() != stopped).then_some(()).ok_or("it stays".to_owned());
    eventually(goes_on).await;
}

#[tokio::test]
#[should_panic(expected = "has ended:\nthe reason")]
async fn a_process_that_ends_at_once_tells_why() {
    Process::start(shell("echo the reason >&2; exit 1")).await;
}
