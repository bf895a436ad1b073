//! Calls that are allowed whatever their arguments are, as stretches of numbers. The kernel checks
//! and compiles each instruction of a filter before the work begins, and a list of calls has five
//! for each: an eighth of the time that a short question takes.
//!
//! ```text
//!   is the machine right? ─▶ load the number ─▶ edges ─▶ allow
//!                                                 └────▶ what depends on arguments ─▶ deny
//! ```

use std::collections::BTreeSet;

use seccompiler::{BpfProgram, sock_filter};

/// Loads the number of the call.
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
/// Goes one way if the number is at least that, else another.
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
/// Ends with a verdict.
const VERDICT: u32 = libc::BPF_RET | libc::BPF_K;

/// The program, which knows nothing of these calls yet, with them.
pub(super) fn allow(calls: &BTreeSet<u32>, mut program: BpfProgram) -> BpfProgram {
    let loads = |step: &sock_filter| u32::from(step.code) == LOAD && step.k == 0;
    let loaded = program.iter().position(loads).expect("a filter looks at the number");
    program.splice(loaded + 1..=loaded, steps(&edges(calls)));
    program
}

/// Where stretches of numbers begin and end, in turn.
fn edges(calls: &BTreeSet<u32>) -> Vec<u32> {
    let mut edges: Vec<u32> = Vec::new();
    for call in calls {
        if edges.last() == Some(call) {
            edges.pop();
        } else {
            edges.push(*call);
        }
        edges.push(call + 1);
    }
    edges
}

/// Steps from edge to edge. A number below one that ends a stretch lies inside, and is allowed by
/// what stands behind the last; any other goes on behind that.
fn steps(edges: &[u32]) -> Vec<sock_filter> {
    let step = |code: u32, jt, jf, k| {
        let code = u16::try_from(code).expect("two bytes");
        sock_filter { code, jt, jf, k }
    };
    let mut steps: Vec<_> = Vec::new();
    for (index, edge) in edges.iter().enumerate() {
        let behind = edges.len() - 1 - index;
        let to_allow = u8::try_from(behind).expect("fewer calls than a jump reaches over");
        let ends = index % 2 == 1;
        let below = if ends { to_allow } else { to_allow + 1 };
        steps.push(step(AT_LEAST, u8::from(behind == 0), below, *edge));
    }
    steps.push(step(VERDICT, 0, 0, libc::SECCOMP_RET_ALLOW));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

    const DENY: SeccompAction = SeccompAction::Errno(1);

    fn listed(calls: &BTreeSet<u32>) -> BpfProgram {
        let rules = calls.iter().map(|call| (i64::from(*call), Vec::new()));
        let arch = TargetArch::x86_64;
        let filter = SeccompFilter::new(rules.collect(), DENY, SeccompAction::Allow, arch);
        let filter = filter.and_then(TryInto::try_into);
        filter.expect("a filter of a list of calls")
    }

    /// What the kernel would say of a call without arguments.
    fn verdict(program: &[sock_filter], machine: u32, number: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let goes = |jumps: bool| usize::from(if jumps { step.jt } else { step.jf });
            match step.code {
                0x20 => word = if step.k == 0 { number } else { machine },
                0x15 => at += goes(word == step.k),
                0x35 => at += goes(word >= step.k),
                0x05 => at += step.k as usize,
                0x06 => return step.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    /// Beside the filter that compares with each number, for any call of two machines.
    #[test]
    fn stretches_say_what_a_list_says() {
        let sets: [&[u32]; 6] = [
            &[7],
            &[0],
            &[0, 1, 2, 3],
            &[1, 2, 4, 5, 9, 300],
            &[u32::MAX / 2],
            &[0, 2, 4, 6, 8, 10, 11, 12, 599],
        ];
        for set in sets {
            let calls: BTreeSet<u32> = set.iter().copied().collect();
            let list = listed(&calls);
            let none = listed(&BTreeSet::from([100_000]));
            let short = allow(&calls, none);
            let mine = 0xc000_003e;
            for machine in [mine, 0x4000_0003] {
                for number in (0..700).chain([u32::MAX / 2, 1 << 30, u32::MAX]) {
                    let says = |program| verdict(program, machine, number);
                    assert_eq!(says(&short), says(&list), "{set:?}: {number} of {machine:#x}");
                }
            }
        }
    }
}
