import EdgeSAMBenchCore
import EdgeSAMBenchRuntime
import Foundation

let command: HostCommand
do {
    command = try HostCommand(
        arguments: Array(CommandLine.arguments.dropFirst()), environment: ProcessInfo.processInfo.environment)
} catch {
    Progress.say("\(error.message)\n\(HostCommand.usage)")
    exit(BenchExit.badRequest.rawValue)
}
if command.showsHelp {
    print(HostCommand.usage)
    exit(BenchExit.done.rawValue)
}
let session = BenchSession(
    documents: command.documents, compiledModels: command.compiledModels, runID: command.runID,
    appVersion: HostCommand.version)
let termination = Termination.handler(for: session)
exit(await Host.run(command, session).rawValue)
