//! A task of the Windows Task Scheduler, as the XML that `schtasks /Create /XML` reads.

use super::{Plan, Written, xml};

pub(super) fn files(plan: &Plan) -> Vec<Written> {
    let (program, arguments) =
        plan.run.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let arguments: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\n  \
         <RegistrationInfo>\n    <Description>{about}</Description>\n  </RegistrationInfo>\n  \
         <Triggers>\n    <LogonTrigger>\n      <Repetition>\n        <Interval>PT{minutes}M</Interval>\n      </Repetition>\n      <Enabled>true</Enabled>\n    </LogonTrigger>\n  </Triggers>\n  \
         <Settings>\n    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n    \
         <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n    <StartWhenAvailable>true</StartWhenAvailable>\n    <ExecutionTimeLimit>PT1H</ExecutionTimeLimit>\n    <Priority>7</Priority>\n  </Settings>\n  \
         <Actions>\n    <Exec>\n      <Command>{program}</Command>\n      <Arguments>{arguments}</Arguments>\n    </Exec>\n  </Actions>\n</Task>\n",
        about = xml(&plan.about),
        minutes = plan.every.as_secs().div_ceil(60),
        program = xml(program),
        arguments = xml(&arguments.join(" ")),
    );
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    vec![Written { name: format!("{}.xml", plan.name), bytes }]
}

/// A word of a Windows command line, as `CommandLineToArgvW` reads it.
fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_string();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                quoted.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}
