//! The smallest example.

use sapwood_tests::process::Program;
use sapwood_tests::sqlite::TestFile;

/// R3: killed between its two steps and started again, the first one does not run twice.
#[test]
fn a_recorded_step_is_not_run_by_the_next_process() {
    let place = TestFile::fresh();
    let hello = || Program::new("hello", place.directory()).start();
    let killed = hello();
    let _ = killed.prints("about to say it");
    let killed = killed.kill().out;
    let next = hello().ended().well();

    let composed = [&killed, &next].map(|out| out.matches("composing").count());
    assert_eq!(composed, [1, 0], "{killed}\n{next}");
    assert!(next.contains("about to say it") && next.contains("Hello, world!"), "{next}");

    let third = hello().ended().well();
    assert!(third.contains("Hello, world!") && !third.contains("about to say it"), "{third}");
}
