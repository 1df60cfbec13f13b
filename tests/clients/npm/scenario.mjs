// Drives a server through the published TypeScript client, and records every response as a JSON line.
// usage: node scenario.mjs BASE_URL TOKEN RECORDING
import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import axiosModule from 'axios'
import qovery from 'qovery-typescript-axios'

const [basePath, token, recording] = process.argv.slice(2)
const axios = axiosModule.default ?? axiosModule
const client = axios.create({ headers: { Authorization: `Token ${token}` } })
const record = ({ config, status, data }) =>
  appendFileSync(
    recording,
    JSON.stringify({ method: config.method.toUpperCase(), url: config.url, status, body: data === '' ? null : data }) + '\n',
  )
client.interceptors.response.use(
  (response) => (record(response), response),
  (error) => { if (error.response) record(error.response); throw error },
)
const configuration = new qovery.Configuration({ basePath })
const api = (name) => new qovery[name](configuration, basePath, client)
const data = async (promise) => (await promise).data
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const environments = api('EnvironmentMainCallsApi')
const actions = api('EnvironmentActionsApi')

async function until(environmentId, ...states) {
  for (let i = 0; i < 600; i++) {
    const status = await data(environments.getEnvironmentStatus(environmentId))
    if (states.includes(status.last_deployment_state)) return status
    assert.ok(!/ERROR$/.test(status.last_deployment_state), JSON.stringify(status))
    await pause(50)
  }
  assert.fail(`${states} was not reached`)
}

// -- configuration
const organization = (await data(api('OrganizationMainCallsApi').listOrganization())).results[0]
await api('OrganizationMainCallsApi').getOrganization(organization.id)
const cluster = await data(client.post(`${basePath}/organization/${organization.id}/cluster`, { name: 'sim', refloat_kind: 'simulated' }))
await api('ClustersApi').listOrganizationCluster(organization.id)
const project = await data(api('ProjectsApi').createProject(organization.id, { name: 'npm' }))
await api('ProjectsApi').listProject(organization.id)
const environment = await data(api('EnvironmentsApi').createEnvironment(project.id, { name: 'env', cluster: cluster.id, mode: 'DEVELOPMENT' }))
await api('EnvironmentsApi').listEnvironment(project.id)
await environments.getEnvironment(environment.id)
const application = await data(api('ApplicationsApi').createApplication(environment.id, {
  name: 'api',
  git_repository: { url: 'https://example.org/api.git#release=ok', provider: 'GITHUB', branch: 'main', root_path: '/' },
  ports: [{ internal_port: 8000, publicly_accessible: true, protocol: 'HTTP', is_default: true }],
  healthchecks: { readiness_probe: { type: { http: { path: '/', scheme: 'HTTP', port: 8000 } }, initial_delay_seconds: 1, period_seconds: 5, timeout_seconds: 2, success_threshold: 1, failure_threshold: 3 } },
}))
assert.equal(application.cpu, 500)
await api('ApplicationsApi').listApplication(environment.id)
await api('ApplicationMainCallsApi').getApplication(application.id)
await api('DeploymentStageMainCallsApi').listEnvironmentDeploymentStage(environment.id)
await api('DeploymentStageMainCallsApi').getServiceDeploymentStage(application.id)
const variable = await data(api('VariableMainCallsApi').createVariable({ key: 'A', value: '1', is_secret: false, variable_scope: 'APPLICATION', variable_parent_id: application.id }))
await api('VariableMainCallsApi').createVariable({ key: 'S', value: 'hidden', is_secret: true, variable_scope: 'ENVIRONMENT', variable_parent_id: environment.id })
await api('VariableMainCallsApi').listVariables(application.id, 'APPLICATION')
await api('ApplicationEnvironmentVariableApi').listApplicationEnvironmentVariable(application.id)

// -- never deployed, deploy, redeploy
assert.equal((await data(environments.getEnvironmentStatus(environment.id))).state, 'READY')
await environments.getEnvironmentStatuses(environment.id)
const deployed = await data(actions.deployEnvironment(environment.id))
assert.equal(deployed.status_details.action, 'DEPLOY')
await environments.getEnvironmentStatuses(environment.id)
await until(environment.id, 'DEPLOYED')
await api('VariableMainCallsApi').editVariable(variable.id, { key: 'A', value: '2' })
assert.equal((await data(environments.getEnvironmentStatus(environment.id))).deployment_status, 'OUT_OF_DATE')
const accepted = await actions.redeployEnvironment(environment.id)
assert.equal(accepted.status, 202)
await environments.getEnvironmentStatusesWithStages(environment.id)
await until(environment.id, 'DEPLOYED')
const statuses = await data(environments.getEnvironmentStatuses(environment.id))
assert.equal(statuses.applications[0].state, 'DEPLOYED')
await environments.getEnvironmentStatusesWithStages(environment.id)
await api('EnvironmentsApi').getProjectEnvironmentsStatus(project.id)
await api('ApplicationMainCallsApi').getApplicationStatus(application.id)
await api('ApplicationMainCallsApi').listApplicationLinks(application.id)
await api('ApplicationMainCallsApi').listApplicationCommit(application.id)
await environments.listServicesByEnvironmentId(environment.id)

// -- history and logs
const history = api('EnvironmentDeploymentHistoryApi')
assert.equal((await data(history.listEnvironmentDeploymentHistory(environment.id))).results.length, 2)
const v2 = (await data(history.listEnvironmentDeploymentHistoryV2(environment.id))).results
assert.equal(v2[0].trigger_action, 'DEPLOY')
assert.equal(v2[0].status, 'DEPLOYED')
const logs = await data(api('EnvironmentLogsApi').listEnvironmentLogs(environment.id))
assert.equal(logs.at(-1).details.stage.step, 'RECAP')

// -- service actions, stop, cancel, delete
await api('ApplicationActionsApi').rebootApplication(application.id)
await until(environment.id, 'RESTARTED')
await actions.stopEnvironment(environment.id)
await until(environment.id, 'STOPPED')
await api('ApplicationMainCallsApi').editApplication(application.id, { name: 'api', healthchecks: {}, git_repository: { url: 'https://example.org/api.git#build=hang', provider: 'GITHUB' } })
await actions.redeployEnvironment(environment.id)
await until(environment.id, 'BUILDING')
await actions.cancelEnvironmentDeployment(environment.id, {})
await until(environment.id, 'CANCELED')
await assert.rejects(environments.getEnvironment('not-an-id'), (error) => error.response.status === 400)
assert.equal((await environments.deleteEnvironment(environment.id)).status, 204)
for (let i = 0; ; i++) {
  const answer = await client.get(`${basePath}/environment/${environment.id}`, { validateStatus: () => true })
  if (answer.status === 404) break
  assert.ok(i < 200, 'the environment is not deleted')
  await pause(50)
}
await api('ProjectMainCallsApi').deleteProject(project.id)
console.log('scenario passed')
