//! Sessions that are documentation and test at once: testdata/cli/*.trycmd.

#[test]
fn sessions_go_as_they_are_written_down() {
    trycmd::TestCases::new().case("testdata/cli/*.trycmd");
}
