//! An agent of launchd.

use super::{Plan, Written, xml};

pub(super) fn files(plan: &Plan) -> Vec<Written> {
    let run: String =
        plan.run.iter().map(|word| format!("        <string>{}</string>\n", xml(word))).collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n    <key>Label</key>\n    <string>{name}</string>\n    <key>ProgramArguments</key>\n    <array>\n{run}    </array>\n    \
         <key>StartInterval</key>\n    <integer>{seconds}</integer>\n    <key>RunAtLoad</key>\n    <true/>\n    \
         <key>ProcessType</key>\n    <string>Background</string>\n</dict>\n</plist>\n",
        name = xml(&plan.name),
        seconds = plan.every.as_secs()
    );
    vec![Written { name: format!("{}.plist", plan.name), bytes: text.into_bytes() }]
}
