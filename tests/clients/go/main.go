// Drives a server through the published Go client, which rejects what it cannot decode strictly.
//
//	REFLOAT_URL=… REFLOAT_TOKEN=… go run .
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/qovery/qovery-client-go"
)

var (
	url    = os.Getenv("REFLOAT_URL")
	token  = os.Getenv("REFLOAT_TOKEN")
	ctx    = context.Background()
	client = connect()
)

func connect() *qovery.APIClient {
	configuration := qovery.NewConfiguration()
	configuration.Servers = qovery.ServerConfigurations{{URL: url}}
	configuration.DefaultHeader["Authorization"] = "Token " + token
	return qovery.NewAPIClient(configuration)
}

func main() {
	organization := must(client.OrganizationMainCallsAPI.ListOrganization(ctx).Execute()).Results[0]
	cluster := simulated(organization.Id)
	project := must(client.ProjectsAPI.CreateProject(ctx, organization.Id).ProjectRequest(
		qovery.ProjectRequest{Name: "go"}).Execute())
	places(organization.Id, project.Id)
	applications(project.Id, cluster)
	kinds(organization.Id, project.Id, cluster)
	ok(client.ProjectMainCallsAPI.DeleteProject(ctx, project.Id).Execute())
	fmt.Println("scenario passed")
}

// A cluster that takes no time is not of the published interface.
func simulated(organization string) string {
	body := []byte(`{"name": "sim", "refloat_kind": "simulated"}`)
	request := must2(http.NewRequest("POST", url+"/organization/"+organization+"/cluster", bytes.NewReader(body)))
	request.Header.Set("Authorization", "Token "+token)
	response := must2(http.DefaultClient.Do(request))
	defer response.Body.Close()
	var made struct{ ID string }
	check(json.NewDecoder(response.Body).Decode(&made))
	require(response.StatusCode == 201, "a cluster is made: %d", response.StatusCode)
	return made.ID
}

func places(organization, project string) {
	must(client.OrganizationMainCallsAPI.GetOrganization(ctx, organization).Execute())
	must(client.ClustersAPI.ListOrganizationCluster(ctx, organization).Execute())
	must(client.ClustersAPI.GetOrganizationClusterStatus(ctx, organization).Execute())
	must(client.ProjectsAPI.ListProject(ctx, organization).Execute())
	must(client.ProjectMainCallsAPI.GetProject(ctx, project).Execute())
	must(client.ProjectMainCallsAPI.EditProject(ctx, project).ProjectRequest(
		qovery.ProjectRequest{Name: "go", Description: at("by the client")}).Execute())
}

func environment(project, name, cluster string) string {
	return must(client.EnvironmentsAPI.CreateEnvironment(ctx, project).CreateEnvironmentRequest(
		qovery.CreateEnvironmentRequest{Name: name, Cluster: &cluster}).Execute()).Id
}

func source(script string) qovery.ApplicationGitRepositoryRequest {
	return qovery.ApplicationGitRepositoryRequest{
		Url: "https://example.org/api.git#" + script, Provider: qovery.GITPROVIDERENUM_GITHUB,
	}
}

func edited(application, script string) {
	repository := source(script)
	must(client.ApplicationMainCallsAPI.EditApplication(ctx, application).ApplicationEditRequest(
		qovery.ApplicationEditRequest{Name: at("api"), GitRepository: &repository}).Execute())
}

func applications(project, cluster string) {
	actions := client.EnvironmentActionsAPI
	env := environment(project, "env", cluster)
	must(client.EnvironmentsAPI.ListEnvironment(ctx, project).Execute())
	must(client.EnvironmentMainCallsAPI.GetEnvironment(ctx, env).Execute())
	must(client.EnvironmentMainCallsAPI.EditEnvironment(ctx, env).EnvironmentEditRequest(
		qovery.EnvironmentEditRequest{Name: at("env"), Mode: at(qovery.CREATEENVIRONMENTMODEENUM_STAGING)}).Execute())
	probe := qovery.Probe{Type: &qovery.ProbeType{
		Http: *qovery.NewNullableProbeTypeHttp(&qovery.ProbeTypeHttp{Path: at("/"), Port: at(int32(8000))}),
	}}
	application := must(client.ApplicationsAPI.CreateApplication(ctx, env).ApplicationRequest(qovery.ApplicationRequest{
		Name:          "api",
		GitRepository: source("release=ok"),
		Ports:         []qovery.ServicePortRequestPortsInner{{InternalPort: 8000, PubliclyAccessible: true}},
		Healthchecks:  qovery.Healthcheck{ReadinessProbe: *qovery.NewNullableProbe(&probe)},
	}).Execute())
	id := application.Id
	require(*application.Cpu == 500, "half a core by default: %d", *application.Cpu)
	must(client.ApplicationsAPI.ListApplication(ctx, env).Execute())
	must(client.ApplicationMainCallsAPI.GetApplication(ctx, id).Execute())
	stages(env, id)
	variable := variables(env, id)

	status := must(client.EnvironmentMainCallsAPI.GetEnvironmentStatus(ctx, env).Execute())
	require(status.State == qovery.STATEENUM_READY, "never deployed: %s", status.State)
	must(client.EnvironmentMainCallsAPI.GetEnvironmentStatuses(ctx, env).Execute())
	must(actions.DeployEnvironment(ctx, env).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(client.VariableMainCallsAPI.EditVariable(ctx, variable).VariableEditRequest(
		qovery.VariableEditRequest{Key: "A", Value: text("2")}).Execute())
	status = must(client.EnvironmentMainCallsAPI.GetEnvironmentStatus(ctx, env).Execute())
	require(*status.DeploymentStatus == qovery.ENVIRONMENTDEPLOYMENTSTATUSENUM_OUT_OF_DATE, "it was changed: %s",
		*status.DeploymentStatus)
	_, response, err := actions.RedeployEnvironment(ctx, env).Execute()
	check(err)
	require(response.StatusCode == 202, "it is accepted: %d", response.StatusCode)
	until(env, qovery.STATEENUM_DEPLOYED)
	statuses := must(client.EnvironmentMainCallsAPI.GetEnvironmentStatuses(ctx, env).Execute())
	require(statuses.Applications[0].State == qovery.STATEENUM_DEPLOYED, "it is deployed")
	told(project, env, id)

	must(client.ApplicationActionsAPI.RebootApplication(ctx, id).Execute())
	until(env, qovery.STATEENUM_RESTARTED)
	must(actions.RebootServices(ctx, env).RebootServicesRequest(
		qovery.RebootServicesRequest{ApplicationIds: []string{id}}).Execute())
	until(env, qovery.STATEENUM_RESTARTED)
	must(client.ApplicationActionsAPI.RedeployApplication(ctx, id).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(actions.DeployAllServices(ctx, env).DeployAllRequest(qovery.DeployAllRequest{
		Applications: []qovery.DeployAllRequestApplicationsInner{{ApplicationId: id}}}).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	ok(actions.StopSelectedServices(ctx, env).EnvironmentServiceIdsAllRequest(
		qovery.EnvironmentServiceIdsAllRequest{ApplicationIds: []string{id}}).Execute())
	until(env, qovery.STATEENUM_STOPPED)
	must(client.ApplicationActionsAPI.DeployApplication(ctx, id).DeployRequest(qovery.DeployRequest{}).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(actions.StopEnvironment(ctx, env).Execute())
	until(env, qovery.STATEENUM_STOPPED)
	interrupted(env, id)

	cloned := must(actions.CloneEnvironment(ctx, env).CloneEnvironmentRequest(
		qovery.CloneEnvironmentRequest{Name: "copy"}).Execute())
	ok(client.EnvironmentMainCallsAPI.DeleteEnvironment(ctx, cloned.Id).Execute())
	ok(client.EnvironmentMainCallsAPI.DeleteEnvironment(ctx, env).Execute())
	gone(cloned.Id)
	gone(env)
}

func stages(env, application string) {
	api := client.DeploymentStageMainCallsAPI
	first := must(api.ListEnvironmentDeploymentStage(ctx, env).Execute()).Results[0].Id
	own := must(api.CreateEnvironmentDeploymentStage(ctx, env).DeploymentStageRequest(
		qovery.DeploymentStageRequest{Name: "own"}).Execute()).Id
	must(api.GetDeploymentStage(ctx, own).Execute())
	must(api.EditDeploymentStage(ctx, own).DeploymentStageRequest(
		qovery.DeploymentStageRequest{Name: "own", Description: text("first of all")}).Execute())
	must(api.MoveAfterDeploymentStage(ctx, own, first).Execute())
	moved := must(api.MoveBeforeDeploymentStage(ctx, own, first).Execute())
	require(moved.Results[0].Id == own, "it comes first")
	must(api.AttachServiceToDeploymentStage(ctx, own, application).Execute())
	require(must(api.GetServiceDeploymentStage(ctx, application).Execute()).Id == own, "it is attached")
	must(api.AttachServiceToDeploymentStage(ctx, first, application).Execute())
	ok(api.DeleteDeploymentStage(ctx, own).Execute())
}

func variables(env, application string) string {
	api := client.VariableMainCallsAPI
	made := must(api.CreateVariable(ctx).VariableRequest(qovery.VariableRequest{Key: "A", Value: "1",
		VariableScope: qovery.APIVARIABLESCOPEENUM_APPLICATION, VariableParentId: application}).Execute())
	secret := must(api.CreateVariable(ctx).VariableRequest(qovery.VariableRequest{Key: "S", Value: "hidden", IsSecret: true,
		VariableScope: qovery.APIVARIABLESCOPEENUM_ENVIRONMENT, VariableParentId: env}).Execute())
	alias := must(api.CreateVariableAlias(ctx, secret.Id).VariableAliasRequest(qovery.VariableAliasRequest{Key: "T",
		AliasScope: qovery.APIVARIABLESCOPEENUM_APPLICATION, AliasParentId: application}).Execute())
	must(api.CreateVariableOverride(ctx, secret.Id).VariableOverrideRequest(qovery.VariableOverrideRequest{Value: "mine",
		OverrideScope: qovery.APIVARIABLESCOPEENUM_APPLICATION, OverrideParentId: application}).Execute())
	must(api.ImportEnvironmentVariables(ctx).ServiceId(application).
		ServiceType(qovery.SERVICETYPEFORVARIABLEENUM_APPLICATION).VariableImportRequest(
		qovery.VariableImportRequest{Overwrite: true, Vars: []qovery.VariableImportRequestVarsInner{
			{Name: "I", Value: "1", Scope: qovery.APIVARIABLESCOPEENUM_APPLICATION}}}).Execute())
	listed := must(api.ListVariables(ctx).ParentId(application).Scope(qovery.APIVARIABLESCOPEENUM_APPLICATION).Execute())
	require(!bytes.Contains(must2(json.Marshal(listed)), []byte("hidden")), "secrets are not told")
	ok(api.DeleteVariable(ctx, alias.Id).Execute())
	must(client.ApplicationEnvironmentVariableAPI.CreateApplicationEnvironmentVariable(ctx, application).
		EnvironmentVariableRequest(qovery.EnvironmentVariableRequest{Key: "OLD", Value: at("1")}).Execute())
	must(client.ApplicationEnvironmentVariableAPI.ListApplicationEnvironmentVariable(ctx, application).Execute())
	must(client.ApplicationSecretAPI.CreateApplicationSecret(ctx, application).SecretRequest(
		qovery.SecretRequest{Key: "OLDER", Value: at("1")}).Execute())
	must(client.ApplicationSecretAPI.ListApplicationSecrets(ctx, application).Execute())
	must(client.EnvironmentSecretAPI.ListEnvironmentSecrets(ctx, env).Execute())
	return made.Id
}

func told(project, env, application string) {
	must(client.EnvironmentMainCallsAPI.GetEnvironmentStatusesWithStages(ctx, env).Execute())
	must(client.EnvironmentsAPI.GetProjectEnvironmentsStatus(ctx, project).Execute())
	must(client.ApplicationMainCallsAPI.GetApplicationStatus(ctx, application).Execute())
	must(client.ApplicationMainCallsAPI.ListApplicationLinks(ctx, application).Execute())
	must(client.EnvironmentAPI.ListEnvironmentServicesLinks(ctx, env).Execute())
	must(client.ApplicationMainCallsAPI.ListApplicationCommit(ctx, application).Execute())
	must(client.EnvironmentMainCallsAPI.ListServicesByEnvironmentId(ctx, env).Execute())
	must(client.ApplicationsAPI.GetEnvironmentApplicationStatus(ctx, env).Execute())
	must(client.ApplicationLogsAPI.ListApplicationLog(ctx, application).Execute())
	// Of the second version of the history this client takes no application's details, whoever tells them: its
	// decoder finds that they match those of a Helm chart too.
	history := client.EnvironmentDeploymentHistoryAPI
	require(len(must(history.ListEnvironmentDeploymentHistory(ctx, env).Execute()).Results) == 2, "two deployments")
	last := must(history.ListEnvironmentDeploymentHistory(ctx, env).Execute()).Results[0]
	require(*last.Status == qovery.STATEENUM_DEPLOYED, "the last one is done: %s", *last.Status)
	require(len(must(client.EnvironmentLogsAPI.ListEnvironmentLogs(ctx, env).Execute())) > 0, "it has a log")
}

func interrupted(env, application string) {
	actions := client.EnvironmentActionsAPI
	edited(application, "build=hang")
	must(actions.RedeployEnvironment(ctx, env).Execute())
	until(env, qovery.STATEENUM_BUILDING)
	must(actions.StopEnvironment(ctx, env).Execute())
	queue := must(client.EnvironmentMainCallsAPI.ListDeploymentRequestByEnvironmentId(ctx, env).Execute())
	require(len(queue.Results) == 1, "one waits: %d", len(queue.Results))
	must(client.EnvironmentMainCallsAPI.ListDeploymentRequestByServiceId(ctx, application).Execute())
	ok(client.DeploymentQueueActionsAPI.CancelDeploymentRequest(ctx, queue.Results[0].Identifier.DeploymentRequestId).Execute())
	must(actions.CancelEnvironmentDeployment(ctx, env).CancelEnvironmentDeploymentRequest(
		qovery.CancelEnvironmentDeploymentRequest{}).Execute())
	until(env, qovery.STATEENUM_CANCELED)
	edited(application, "build=fail")
	must(actions.RedeployEnvironment(ctx, env).Execute())
	until(env, qovery.STATEENUM_BUILD_ERROR)
	must(client.EnvironmentLogsAPI.ListEnvironmentLogs(ctx, env).Execute())
	must(client.EnvironmentMainCallsAPI.GetEnvironmentStatuses(ctx, env).Execute())
	_, response, err := client.EnvironmentMainCallsAPI.GetEnvironment(ctx, "not-an-id").Execute()
	require(err != nil && response.StatusCode == 400, "bad ids are refused")
}

func kinds(organization, project, cluster string) {
	env := environment(project, "kinds", cluster)
	registry := must(client.ContainerRegistriesAPI.CreateContainerRegistry(ctx, organization).ContainerRegistryRequest(
		qovery.ContainerRegistryRequest{Name: "hub", Kind: qovery.CONTAINERREGISTRYKINDENUM_DOCKER_HUB,
			Config: qovery.ContainerRegistryRequestConfig{Username: at("u"), Password: at("p")}}).Execute()).Id
	must(client.ContainerRegistriesAPI.ListContainerRegistry(ctx, organization).Execute())
	must(client.ContainerRegistriesAPI.GetContainerRegistry(ctx, organization, registry).Execute())
	must(client.DatabasesAPI.ListEnvironmentDatabaseConfig(ctx, env).Execute())
	database := must(client.DatabasesAPI.CreateDatabase(ctx, env).DatabaseRequest(qovery.DatabaseRequest{
		Name: "db", Type: qovery.DATABASETYPEENUM_POSTGRESQL, Version: "16", Mode: qovery.DATABASEMODEENUM_CONTAINER,
	}).Execute()).Id
	repository := source("")
	job := must(client.JobsAPI.CreateJob(ctx, env).JobRequest(qovery.JobRequest{
		Name: "migrate",
		Source: &qovery.JobRequestAllOfSource{Docker: *qovery.NewNullableJobRequestAllOfSourceDocker(
			&qovery.JobRequestAllOfSourceDocker{GitRepository: &repository})},
		Schedule: &qovery.JobRequestAllOfSchedule{
			OnStart:       &qovery.JobRequestAllOfScheduleOnStart{Entrypoint: at("run"), Arguments: []string{"all"}},
			LifecycleType: at(qovery.JOBLIFECYCLETYPEENUM_GENERIC),
		},
	}).Execute()).LifecycleJobResponse.Id
	nightly := must(client.JobsAPI.CreateJob(ctx, env).JobRequest(qovery.JobRequest{
		Name: "nightly",
		Source: &qovery.JobRequestAllOfSource{Image: *qovery.NewNullableJobRequestAllOfSourceImage(
			&qovery.JobRequestAllOfSourceImage{ImageName: at("tools/report"), Tag: at("1"), RegistryId: &registry})},
		Schedule: &qovery.JobRequestAllOfSchedule{
			Cronjob: &qovery.JobRequestAllOfScheduleCronjob{ScheduledAt: "0 3 * * *"}},
	}).Execute()).CronJobResponse.Id
	web := qovery.ContainerRequest{Name: "web", RegistryId: registry, ImageName: "library/nginx", Tag: "1.27",
		Ports: []qovery.ServicePortRequestPortsInner{{InternalPort: 80, PubliclyAccessible: true}}}
	container := must(client.ContainersAPI.CreateContainer(ctx, env).ContainerRequest(web).Execute()).Id
	must(client.DatabaseMainCallsAPI.GetDatabase(ctx, database).Execute())
	must(client.DatabaseMainCallsAPI.EditDatabase(ctx, database).DatabaseEditRequest(
		qovery.DatabaseEditRequest{Memory: at(int32(200))}).Execute())
	must(client.DatabaseMainCallsAPI.ListDatabaseVersion(ctx, database).Execute())
	must(client.DatabaseMainCallsAPI.GetDatabaseMasterCredentials(ctx, database).Execute())
	must(client.JobMainCallsAPI.GetJob(ctx, job).Execute())
	must(client.JobMainCallsAPI.GetJob(ctx, nightly).Execute())
	must(client.ContainerMainCallsAPI.GetContainer(ctx, container).Execute())
	web.Tag = "1.28"
	must(client.ContainerMainCallsAPI.EditContainer(ctx, container).ContainerRequest(web).Execute())
	ok(client.JobMainCallsAPI.DeleteJob(ctx, nightly).Execute())
	must(client.EnvironmentActionsAPI.RedeployEnvironment(ctx, env).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	listed(env, database, job, container)
	must(client.EnvironmentActionsAPI.DeployAllServices(ctx, env).DeployAllRequest(qovery.DeployAllRequest{
		Databases:  []string{database},
		Jobs:       []qovery.DeployAllRequestJobsInner{{Id: &job}},
		Containers: []qovery.DeployAllRequestContainersInner{{Id: container, ImageTag: at("1.29")}},
	}).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(client.DatabaseActionsAPI.RebootDatabase(ctx, database).Execute())
	until(env, qovery.STATEENUM_RESTARTED)
	must(client.JobActionsAPI.RedeployJob(ctx, job).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(client.ContainerActionsAPI.DeployContainer(ctx, container).ContainerDeployRequest(
		qovery.ContainerDeployRequest{ImageTag: "1.30"}).Execute())
	until(env, qovery.STATEENUM_DEPLOYED)
	must(client.ContainerActionsAPI.StopContainer(ctx, container).Execute())
	until(env, qovery.STATEENUM_STOPPED)
	must(client.DatabaseActionsAPI.StopDatabase(ctx, database).Execute())
	until(env, qovery.STATEENUM_STOPPED)
	ok(client.ContainerMainCallsAPI.DeleteContainer(ctx, container).Execute())
	ok(client.DatabaseMainCallsAPI.DeleteDatabase(ctx, database).Execute())
	ok(client.EnvironmentMainCallsAPI.DeleteEnvironment(ctx, env).Execute())
	gone(env)
	ok(client.ContainerRegistriesAPI.DeleteContainerRegistry(ctx, organization, registry).Execute())
}

func listed(env, database, job, container string) {
	statuses := must(client.EnvironmentMainCallsAPI.GetEnvironmentStatuses(ctx, env).Execute())
	for _, found := range [][]qovery.Status{statuses.Databases, statuses.Jobs, statuses.Containers} {
		require(found[0].State == qovery.STATEENUM_DEPLOYED, "it is deployed: %s", found[0].State)
	}
	must(client.EnvironmentMainCallsAPI.ListServicesByEnvironmentId(ctx, env).Execute())
	must(client.ContainersAPI.ListContainer(ctx, env).Execute())
	must(client.DatabasesAPI.ListDatabase(ctx, env).Execute())
	must(client.JobsAPI.ListJobs(ctx, env).Execute())
	must(client.DatabasesAPI.GetEnvironmentDatabaseStatus(ctx, env).Execute())
	must(client.JobsAPI.GetEnvironmentJobStatus(ctx, env).Execute())
	must(client.ContainersAPI.GetEnvironmentContainerStatus(ctx, env).Execute())
	must(client.DatabaseMainCallsAPI.GetDatabaseStatus(ctx, database).Execute())
	must(client.JobMainCallsAPI.GetJobStatus(ctx, job).Execute())
	must(client.ContainerMainCallsAPI.GetContainerStatus(ctx, container).Execute())
	must(client.ContainerMainCallsAPI.ListContainerLinks(ctx, container).Execute())
	must(client.EnvironmentDeploymentHistoryAPI.ListEnvironmentDeploymentHistory(ctx, env).Execute())
}

// -- waiting and failing

func until(env string, wanted qovery.StateEnum) {
	failed := []qovery.StateEnum{qovery.STATEENUM_BUILD_ERROR, qovery.STATEENUM_DEPLOYMENT_ERROR}
	for range 600 {
		status := must(client.EnvironmentMainCallsAPI.GetEnvironmentStatus(ctx, env).Execute())
		if status.LastDeploymentState == wanted {
			return
		}
		require(!slices.Contains(failed, status.LastDeploymentState), "%s while waiting for %s",
			status.LastDeploymentState, wanted)
		time.Sleep(50 * time.Millisecond)
	}
	require(false, "%s was not reached", wanted)
}

func gone(env string) {
	for range 200 {
		_, response, _ := client.EnvironmentMainCallsAPI.GetEnvironment(ctx, env).Execute()
		if response != nil && response.StatusCode == 404 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	require(false, "the environment is not deleted")
}

func must[T any](value T, _ *http.Response, err error) T {
	check(err)
	return value
}

func must2[T any](value T, err error) T {
	check(err)
	return value
}

func ok(_ *http.Response, err error) { check(err) }

func check(err error) {
	var answer *qovery.GenericOpenAPIError
	if errors.As(err, &answer) {
		require(false, "%s\n%s", answer.Error(), answer.Body())
	}
	require(err == nil, "%v", err)
}

func require(holds bool, words string, values ...any) {
	if holds {
		return
	}
	fmt.Fprintf(os.Stderr, words+"\n", values...)
	for depth := 1; ; depth++ {
		_, file, line, known := runtime.Caller(depth)
		if !known {
			os.Exit(1)
		}
		fmt.Fprintf(os.Stderr, "  %s:%d\n", file, line)
	}
}

func at[T any](value T) *T { return &value }

func text(value string) qovery.NullableString { return *qovery.NewNullableString(&value) }
