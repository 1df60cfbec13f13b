// Drives a server through the published TypeScript client, and records every response as a JSON line.
// REFLOAT_URL=… REFLOAT_TOKEN=… REFLOAT_RECORDING=… node scenario.mjs
import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import axiosModule from 'axios'
import qovery from 'qovery-typescript-axios'

const { REFLOAT_URL: basePath, REFLOAT_TOKEN: token, REFLOAT_RECORDING: recording } = process.env
assert.ok(basePath && token && recording, 'REFLOAT_URL, REFLOAT_TOKEN and REFLOAT_RECORDING are required')
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

async function gone(environmentId) {
  for (let i = 0; i < 200; i++) {
    const answer = await client.get(`${basePath}/environment/${environmentId}`, { validateStatus: () => true })
    if (answer.status === 404) return
    await pause(50)
  }
  assert.fail('the environment is not deleted')
}

// -- configuration
const organization = (await data(api('OrganizationMainCallsApi').listOrganization())).results[0]
await api('OrganizationMainCallsApi').getOrganization(organization.id)
const cluster = await data(client.post(`${basePath}/organization/${organization.id}/cluster`, { name: 'sim', refloat_kind: 'simulated' }))
await api('ClustersApi').listOrganizationCluster(organization.id)
await api('ClustersApi').getOrganizationClusterStatus(organization.id)
const project = await data(api('ProjectsApi').createProject(organization.id, { name: 'npm' }))
await api('ProjectsApi').listProject(organization.id)
await api('ProjectMainCallsApi').getProject(project.id)
await api('ProjectMainCallsApi').editProject(project.id, { name: 'npm', description: 'by the client' })
const environment = await data(api('EnvironmentsApi').createEnvironment(project.id, { name: 'env', cluster: cluster.id, mode: 'DEVELOPMENT' }))
await api('EnvironmentsApi').listEnvironment(project.id)
await environments.getEnvironment(environment.id)
await environments.editEnvironment(environment.id, { name: 'env', mode: 'STAGING' })
const application = await data(api('ApplicationsApi').createApplication(environment.id, {
  name: 'api',
  git_repository: { url: 'https://example.org/api.git#release=ok', provider: 'GITHUB', branch: 'main', root_path: '/' },
  ports: [{ internal_port: 8000, publicly_accessible: true, protocol: 'HTTP', is_default: true }],
  healthchecks: { readiness_probe: { type: { http: { path: '/', scheme: 'HTTP', port: 8000 } }, initial_delay_seconds: 1, period_seconds: 5, timeout_seconds: 2, success_threshold: 1, failure_threshold: 3 } },
}))
assert.equal(application.cpu, 500)
await api('ApplicationsApi').listApplication(environment.id)
await api('ApplicationMainCallsApi').getApplication(application.id)
const stages = api('DeploymentStageMainCallsApi')
const first = (await data(stages.listEnvironmentDeploymentStage(environment.id))).results[0]
const stage = await data(stages.createEnvironmentDeploymentStage(environment.id, { name: 'own' }))
await stages.getDeploymentStage(stage.id)
await stages.editDeploymentStage(stage.id, { name: 'own', description: 'first of all' })
await stages.moveAfterDeploymentStage(stage.id, first.id)
assert.equal((await data(stages.moveBeforeDeploymentStage(stage.id, first.id))).results[0].id, stage.id)
await stages.attachServiceToDeploymentStage(stage.id, application.id, {})
assert.equal((await data(stages.getServiceDeploymentStage(application.id))).id, stage.id)
await stages.attachServiceToDeploymentStage(first.id, application.id, {})
assert.equal((await stages.deleteDeploymentStage(stage.id)).status, 204)
const variable = await data(api('VariableMainCallsApi').createVariable({ key: 'A', value: '1', is_secret: false, variable_scope: 'APPLICATION', variable_parent_id: application.id }))
const secret = await data(api('VariableMainCallsApi').createVariable({ key: 'S', value: 'hidden', is_secret: true, variable_scope: 'ENVIRONMENT', variable_parent_id: environment.id }))
await api('VariableMainCallsApi').createVariable({ key: 'F', value: 'text', mount_path: '/etc/f', is_secret: false, variable_scope: 'APPLICATION', variable_parent_id: application.id })
const alias = await data(api('VariableMainCallsApi').createVariableAlias(secret.id, { key: 'T', alias_scope: 'APPLICATION', alias_parent_id: application.id }))
await api('VariableMainCallsApi').createVariableOverride(secret.id, { value: 'mine', override_scope: 'APPLICATION', override_parent_id: application.id })
await api('VariableMainCallsApi').importEnvironmentVariables(application.id, 'APPLICATION', { overwrite: true, vars: [{ name: 'I', value: '1', scope: 'APPLICATION', is_secret: false }, { name: 'J', value: '1', scope: 'APPLICATION', is_secret: true }] })
assert.ok(!JSON.stringify(await data(api('VariableMainCallsApi').listVariables(application.id, 'APPLICATION'))).includes('hidden'))
await api('ApplicationEnvironmentVariableApi').createApplicationEnvironmentVariable(application.id, { key: 'OLD', value: '1' })
await api('ApplicationEnvironmentVariableApi').listApplicationEnvironmentVariable(application.id)
await api('ApplicationSecretApi').createApplicationSecret(application.id, { key: 'OLDER', value: '1' })
await api('ApplicationSecretApi').listApplicationSecrets(application.id)
await api('EnvironmentSecretApi').listEnvironmentSecrets(environment.id)
await api('ProjectEnvironmentVariableApi').createProjectEnvironmentVariable(project.id, { key: 'P', value: '1' })
await api('ProjectEnvironmentVariableApi').listProjectEnvironmentVariable(project.id)
assert.equal((await api('VariableMainCallsApi').deleteVariable(alias.id)).status, 204)

// -- never deployed, deploy, redeploy
assert.equal((await data(environments.getEnvironmentStatus(environment.id))).state, 'READY')
await environments.getEnvironmentStatuses(environment.id)
const deployed = await data(actions.deployEnvironment(environment.id))
assert.equal(deployed.status_details.action, 'DEPLOY')
assert.ok(deployed.last_deployment_state, 'the environment\'s fields are there too')
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
await api('EnvironmentApi').listEnvironmentServicesLinks(environment.id)
await api('ApplicationMainCallsApi').listApplicationCommit(application.id)
await environments.listServicesByEnvironmentId(environment.id)
await api('ApplicationsApi').getEnvironmentApplicationStatus(environment.id)
const others = { ContainersApi: 'listContainer', DatabasesApi: 'listDatabase', JobsApi: 'listJobs', HelmsApi: 'listHelms', TerraformsApi: 'listTerraforms' }
for (const [name, list] of Object.entries(others)) assert.deepEqual((await data(api(name)[list](environment.id))).results, [])

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
await actions.rebootServices(environment.id, { application_ids: [application.id] })
await until(environment.id, 'RESTARTED')
await api('ApplicationActionsApi').redeployApplication(application.id)
await until(environment.id, 'DEPLOYED')
await actions.deployAllServices(environment.id, { applications: [{ application_id: application.id }] })
await until(environment.id, 'DEPLOYED')
await actions.stopSelectedServices(environment.id, { application_ids: [application.id] })
await until(environment.id, 'STOPPED')
await api('ApplicationActionsApi').deployApplication(application.id, {})
await until(environment.id, 'DEPLOYED')
await actions.stopEnvironment(environment.id)
await until(environment.id, 'STOPPED')
await api('ApplicationMainCallsApi').editApplication(application.id, { name: 'api', healthchecks: {}, git_repository: { url: 'https://example.org/api.git#build=hang', provider: 'GITHUB' } })
await actions.redeployEnvironment(environment.id)
await until(environment.id, 'BUILDING')
const queued = await data(actions.stopEnvironment(environment.id))
assert.equal((await data(client.get(`${basePath}/environment/${environment.id}/deploymentQueue`))).results.length, 1)
await client.get(`${basePath}/service/${application.id}/deploymentQueue`)
await client.get(`${basePath}/environment/deploymentStatus?deploymentRequestId=${queued.deployment_request_id}`)
assert.equal((await client.post(`${basePath}/deploymentQueue/${queued.deployment_request_id}/cancelDeployment`, {})).status, 202)
await actions.cancelEnvironmentDeployment(environment.id, {})
await until(environment.id, 'CANCELED')
await api('ApplicationMainCallsApi').editApplication(application.id, { name: 'api', healthchecks: {}, git_repository: { url: 'https://example.org/api.git#build=fail', provider: 'GITHUB' } })
await actions.redeployEnvironment(environment.id)
await until(environment.id, 'BUILD_ERROR')
assert.ok((await data(api('EnvironmentLogsApi').listEnvironmentLogs(environment.id))).some((line) => line.error))
await environments.getEnvironmentStatuses(environment.id)
await history.listEnvironmentDeploymentHistoryV2(environment.id)
await assert.rejects(environments.getEnvironment('not-an-id'), (error) => error.response.status === 400)
assert.equal((await environments.deleteEnvironment(environment.id)).status, 204)
await gone(environment.id)

// -- databases, jobs and containers
const mixed = await data(api('EnvironmentsApi').createEnvironment(project.id, { name: 'kinds', mode: 'DEVELOPMENT', cluster: cluster.id }))
const registry = await data(api('ContainerRegistriesApi').createContainerRegistry(organization.id, { name: 'hub', kind: 'DOCKER_HUB', config: { username: 'u', password: 'p' } }))
await api('ContainerRegistriesApi').listContainerRegistry(organization.id)
await api('ContainerRegistriesApi').getContainerRegistry(organization.id, registry.id)
await api('DatabasesApi').listEnvironmentDatabaseConfig(mixed.id)
const database = await data(api('DatabasesApi').createDatabase(mixed.id, { name: 'db', type: 'POSTGRESQL', version: '16', mode: 'CONTAINER' }))
const job = await data(api('JobsApi').createJob(mixed.id, { name: 'migrate', healthchecks: {}, source: { docker: { git_repository: { url: 'https://example.org/migrate.git', provider: 'GITHUB' } } }, schedule: { on_start: { entrypoint: 'run', arguments: ['all'] }, lifecycle_type: 'GENERIC' } }))
const clocked = await data(api('JobsApi').createJob(mixed.id, { name: 'nightly', healthchecks: {}, source: { image: { image_name: 'tools/report', tag: '1', registry_id: registry.id } }, schedule: { cronjob: { scheduled_at: '0 3 * * *' } } }))
const container = await data(api('ContainersApi').createContainer(mixed.id, { name: 'web', registry_id: registry.id, image_name: 'library/nginx', tag: '1.27', healthchecks: {}, ports: [{ internal_port: 80, publicly_accessible: true, protocol: 'HTTP' }] }))
await api('DatabaseMainCallsApi').getDatabase(database.id)
await api('DatabaseMainCallsApi').editDatabase(database.id, { memory: 200 })
await api('DatabaseMainCallsApi').listDatabaseVersion(database.id)
await api('DatabaseMainCallsApi').getDatabaseMasterCredentials(database.id)
await api('JobMainCallsApi').getJob(job.id)
await api('JobMainCallsApi').editJob(job.id, { name: 'migrate', healthchecks: {}, max_nb_restart: 1 })
await api('ContainerMainCallsApi').getContainer(container.id)
await api('ContainerMainCallsApi').editContainer(container.id, { name: 'web', registry_id: registry.id, image_name: 'library/nginx', tag: '1.28', healthchecks: {} })
await api('JobSecretApi').createJobSecret(job.id, { key: 'TOKEN', value: 'x' })
await api('ContainerEnvironmentVariableApi').createContainerEnvironmentVariable(container.id, { key: 'MODE', value: 'x' })
await api('JobMainCallsApi').deleteJob(clocked.id)
await actions.redeployEnvironment(mixed.id)
await until(mixed.id, 'DEPLOYED')
const mixedStatuses = await data(environments.getEnvironmentStatuses(mixed.id))
for (const kind of ['databases', 'jobs', 'containers']) assert.equal(mixedStatuses[kind][0].state, 'DEPLOYED')
await environments.getEnvironmentStatusesWithStages(mixed.id)
await environments.listServicesByEnvironmentId(mixed.id)
for (const [name, list] of Object.entries({ ContainersApi: 'listContainer', DatabasesApi: 'listDatabase', JobsApi: 'listJobs' })) assert.equal((await data(api(name)[list](mixed.id))).results.length, 1)
await api('DatabasesApi').getEnvironmentDatabaseStatus(mixed.id)
await api('JobsApi').getEnvironmentJobStatus(mixed.id)
await api('ContainersApi').getEnvironmentContainerStatus(mixed.id)
await api('DatabaseMainCallsApi').getDatabaseStatus(database.id)
await api('JobMainCallsApi').getJobStatus(job.id)
await api('ContainerMainCallsApi').getContainerStatus(container.id)
await api('ContainerMainCallsApi').listContainerLinks(container.id)
await api('JobMainCallsApi').listJobCommit(job.id)
await api('EnvironmentDeploymentHistoryApi').listEnvironmentDeploymentHistory(mixed.id)
await actions.deployAllServices(mixed.id, { databases: [database.id], jobs: [{ id: job.id }], containers: [{ id: container.id, image_tag: '1.29' }] })
await until(mixed.id, 'DEPLOYED')
await api('DatabaseActionsApi').rebootDatabase(database.id)
await until(mixed.id, 'RESTARTED')
await api('DatabaseActionsApi').redeployDatabase(database.id)
await until(mixed.id, 'DEPLOYED')
await api('JobActionsApi').redeployJob(job.id)
await until(mixed.id, 'DEPLOYED')
await api('ContainerActionsApi').deployContainer(container.id, { image_tag: '1.30' })
await until(mixed.id, 'DEPLOYED')
await api('ContainerActionsApi').rebootContainer(container.id)
await until(mixed.id, 'RESTARTED')
await api('ContainerActionsApi').stopContainer(container.id)
await until(mixed.id, 'STOPPED')
await api('DatabaseActionsApi').stopDatabase(database.id)
await until(mixed.id, 'STOPPED')
await api('ContainerMainCallsApi').deleteContainer(container.id)
await api('DatabaseMainCallsApi').deleteDatabase(database.id)
await environments.deleteEnvironment(mixed.id)
await gone(mixed.id)
await api('ContainerRegistriesApi').deleteContainerRegistry(organization.id, registry.id)
await api('ProjectMainCallsApi').deleteProject(project.id)
console.log('scenario passed')
