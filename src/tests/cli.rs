//! Sessions that are documentation and test at once: testdata/cli/*.trycmd.

#[test]
fn sessions_go_as_they_are_written_down() {
    trycmd::TestCases::new().case("testdata/cli/*.trycmd");
}

#[test]
fn the_table_of_formats_in_the_readme_is_the_one_in_the_help() {
    let program = env!("CARGO_BIN_EXE_diskwright");
    let help = std::process::Command::new(program).arg("--help").output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let rows = help.lines().skip_while(|line| *line != "Formats:").skip(1);
    let rows: Vec<_> = rows.take_while(|line| !line.is_empty()).map(str::trim).collect();
    let readme = include_str!("../../README.md");
    assert!(!rows.is_empty() && readme.contains(&rows.join("\n")), "README.md lacks:\n{rows:#?}");
}
