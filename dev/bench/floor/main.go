// The floor of the benchmark: client-go's dynamic informer with 16 workers. It lists, watches and
// patches like the operator in a burst of new channels that work, and does nothing else.
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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

const workers = 16

var channels = schema.GroupVersionResource{Group: "wazzup.dev", Version: "v1", Resource: "wazzupchannels"}

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
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		log.Fatal(err)
	}
	config.QPS = -1 // no rate limit
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	run(context.Background(), client, rows)
}

// listing returns the account's channels by number.
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

// run reconciles every change, until the process is killed.
func run(ctx context.Context, client dynamic.Interface, rows map[string]row) {
	informer := dynamicinformer.NewDynamicSharedInformerFactory(client, 0).ForResource(channels).Informer()
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
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		log.Fatal("the cache did not sync")
	}
	for range workers {
		go func() {
			for {
				key, _ := queue.Get()
				if object, found, _ := informer.GetStore().GetByKey(key); found {
					if err := reconcile(ctx, client, object.(*unstructured.Unstructured), rows); err != nil {
						log.Fatal(err)
					}
				}
				queue.Done(key)
			}
		}()
	}
	select {}
}

// reconcile writes the status of a channel that has none yet.
func reconcile(ctx context.Context, client dynamic.Interface, channel *unstructured.Unstructured, rows map[string]row) error {
	number, _, _ := unstructured.NestedString(channel.Object, "spec", "phoneNumber")
	account, _, _ := unstructured.NestedString(channel.Object, "spec", "accountRef", "name")
	observed, _, _ := unstructured.NestedInt64(channel.Object, "status", "observedGeneration")
	listed, found := rows[strings.TrimPrefix(number, "+")]
	if !found || observed == channel.GetGeneration() {
		return nil
	}
	now := metav1.NewTime(time.Now())
	condition := func(kind, reason, message string) metav1.Condition {
		return metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message,
			ObservedGeneration: channel.GetGeneration(), LastTransitionTime: now,
		}
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": channel.GetUID(), "resourceVersion": channel.GetResourceVersion()},
		"status": map[string]any{
			"observedGeneration": channel.GetGeneration(),
			"account":            account,
			"state":              "Active",
			"upstreamState":      listed.State,
			"channelID":          listed.ChannelID,
			"plainID":            listed.PlainID,
			"displayName":        listed.Name,
			"stateSince":         now,
			"conditions": []metav1.Condition{
				condition("Ready", "Active", "The channel is active and carries messages."),
				condition("Synced", "UpToDate", "This status comes from a current listing of the Wazzup account."),
			},
		},
	})
	if err != nil {
		return err
	}
	_, err = client.Resource(channels).Namespace(channel.GetNamespace()).
		Patch(ctx, channel.GetName(), types.MergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}
