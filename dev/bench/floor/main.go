// The floor of the benchmark: a client-go informer with 16 workers. It lists, watches and patches
// like the operator in a burst of new channels that work, and does nothing else.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

const (
	workers  = 16
	resource = "wazzupchannels"
)

var version = schema.GroupVersion{Group: "wazzup.dev", Version: "v1"}

// Channel is a WazzupChannel.
type Channel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		PhoneNumber string `json:"phoneNumber"`
		AccountRef  struct {
			Name string `json:"name"`
		} `json:"accountRef"`
	} `json:"spec"`
	Status Status `json:"status"`
}

// Status is what the operator writes for a channel that works.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Account            string             `json:"account"`
	State              string             `json:"state"`
	UpstreamState      string             `json:"upstreamState"`
	ChannelID          string             `json:"channelID"`
	PlainID            string             `json:"plainID"`
	DisplayName        string             `json:"displayName"`
	StateSince         metav1.Time        `json:"stateSince"`
	Conditions         []metav1.Condition `json:"conditions"`
}

// DeepCopyObject makes it a runtime.Object; nothing changes what is shared.
func (c *Channel) DeepCopyObject() runtime.Object {
	copied := *c
	return &copied
}

// ChannelList is a list of WazzupChannels.
type ChannelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Channel `json:"items"`
}

// DeepCopyObject makes it a runtime.Object; nothing changes what is shared.
func (l *ChannelList) DeepCopyObject() runtime.Object {
	copied := *l
	return &copied
}

type row struct {
	ChannelID string `json:"channelId"`
	PlainID   string `json:"plainId"`
	Name      string `json:"name"`
	State     string `json:"state"`
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: floor WAZZUP_URL API_KEY, with KUBECONFIG set")
	}
	rows, err := listing(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	client, err := newClient(os.Getenv("KUBECONFIG"))
	if err != nil {
		log.Fatal(err)
	}
	run(client, rows)
}

func listing(url, key string) (map[string]row, error) {
	request, err := http.NewRequest(http.MethodGet, url+"/v3/channels", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var rows []row
	if err := json.NewDecoder(answer.Body).Decode(&rows); err != nil {
		return nil, fmt.Errorf("the listing answered %s: %w", answer.Status, err)
	}
	byNumber := make(map[string]row, len(rows))
	for _, each := range rows {
		byNumber[each.PlainID] = each
	}
	return byNumber, nil
}

func newClient(kubeconfig string) (*rest.RESTClient, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(version.WithKind("WazzupChannel"), &Channel{})
	scheme.AddKnownTypeWithName(version.WithKind("WazzupChannelList"), &ChannelList{})
	metav1.AddToGroupVersion(scheme, version)
	config.APIPath = "/apis"
	config.GroupVersion = &version
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.QPS = -1 // no rate limit
	return rest.RESTClientFor(config)
}

func run(client *rest.RESTClient, rows map[string]row) {
	source := cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	informer := cache.NewSharedIndexInformer(source, &Channel{}, 0, cache.Indexers{})
	queue := workqueue.NewTyped[string]()
	enqueue := func(object any) {
		if key, err := cache.MetaNamespaceKeyFunc(object); err == nil {
			queue.Add(key)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	}); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		log.Fatal("the cache did not sync")
	}
	for range workers {
		go func() {
			for {
				key, _ := queue.Get()
				if object, found, _ := informer.GetStore().GetByKey(key); found {
					if err := reconcile(ctx, client, object.(*Channel), rows); err != nil {
						log.Fatal(err)
					}
				}
				queue.Done(key)
			}
		}()
	}
	select {} // until it is killed
}

// reconcile writes the status of a channel that has none yet.
func reconcile(ctx context.Context, client *rest.RESTClient, channel *Channel, rows map[string]row) error {
	listed, found := rows[strings.TrimPrefix(channel.Spec.PhoneNumber, "+")]
	if !found || channel.Status.ObservedGeneration == channel.Generation {
		return nil
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": channel.UID, "resourceVersion": channel.ResourceVersion},
		"status":   status(channel, listed),
	})
	if err != nil {
		return err
	}
	return client.Patch(types.MergePatchType).
		Namespace(channel.Namespace).Resource(resource).Name(channel.Name).SubResource("status").
		Body(body).Do(ctx).Into(&Channel{})
}

func status(channel *Channel, listed row) Status {
	now := metav1.NewTime(time.Now())
	condition := func(kind, reason, message string) metav1.Condition {
		return metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message,
			ObservedGeneration: channel.Generation, LastTransitionTime: now,
		}
	}
	return Status{
		ObservedGeneration: channel.Generation,
		Account:            channel.Spec.AccountRef.Name,
		State:              "Active",
		UpstreamState:      listed.State,
		ChannelID:          listed.ChannelID,
		PlainID:            listed.PlainID,
		DisplayName:        listed.Name,
		StateSince:         now,
		Conditions: []metav1.Condition{
			condition("Ready", "Active", "The channel is active and carries messages."),
			condition("Synced", "UpToDate", "This status comes from a current listing of the Wazzup account."),
		},
	}
}
