//! `snapshot status` beside what etcdutl 3.7.1 printed, word for word.

use rstest::rstest;

use crate::run::Room;

/// What etcdutl 3.7.1 wrote to stdout for `format`, from the recorded session.
fn etcdutl(format: &str) -> String {
    let session = testdata::sample("status-3.7.1.txt");
    let command =
        format!("snapshot status fixtures/3.5.30/single/s3-final.snapshot.db -w {format}\n--- stdout\n");
    let (_, rest) = session.split_once(&command).expect("the session has the format");
    let (stdout, _) = rest.split_once("\n--- stderr").expect("the session goes on");
    stdout.to_owned()
}

#[rstest]
#[case("simple")]
#[case("table")]
#[case("fields")]
fn as_etcdutl_prints_it(#[case] format: &str) {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run(&format!("snapshot status snapshot.db -w {format}"));
    assert_eq!(ran.stdout, etcdutl(format));
    assert_eq!(ran.code, 0);
}

#[test]
fn json_has_one_more_field() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot status snapshot.db -w json");
    let expected = etcdutl("json").replace("}\n", ",\"integrity\":\"verified\"}\n");
    assert_eq!(ran.stdout, expected);
}

#[test]
fn protobuf_is_refused_in_its_words() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot status snapshot.db -w protobuf");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (4, "", "Error: protobuf not supported as output format\n")
    );
}

#[test]
fn every_snapshot_has_the_status_etcdutl_saw() {
    let matrix = testdata::sample("status-matrix.txt");
    let mut seen = 0;
    for version in testdata::VERSIONS {
        for stage in testdata::STAGES {
            let prefix = format!("{version}/{stage} etcdutl-3.7.1 ");
            let line =
                matrix.lines().find_map(|line| line.strip_prefix(&prefix)).expect("the matrix is complete");
            let room = Room::with_snapshot(version, stage);
            let ran = room.run("snapshot status snapshot.db -w json");
            assert_eq!(ran.stdout, line.replace('}', ",\"integrity\":\"verified\"}\n"), "{version}/{stage}");
            seen += 1;
        }
    }
    assert_eq!(seen, 15);
}
