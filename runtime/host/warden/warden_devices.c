/* warden_devices.c - which devices a program of the guest could have (granted.h)
 *
 * The question comes in place of an ATTACH, and nothing is started.  What the guest's programs are called is the guest's word here as there.
 */
#include "runtime/host/policy/granted.h"
#include "runtime/host/warden/warden_parts.h"

void warden_devices(struct warden *w, const struct ds_agent_devices *msg)
{
	const struct policy_query query = {.vm = w->p->vm, .program = msg->program, .service = msg->service, .uid = msg->uid, .mode = DS_AGENT_DEMAND};
	struct ds_agent_call answer = {.executor = 0};
	struct granted g;

	granted_list(w->p->policy, &query, &g);
	answer.executor = g.more;
	answer.payload_bytes = (uint32_t)g.n;
	w->hello_deadline_ns = warden_after_ms(w->times.hello_ms);
	warden_send_payload(w, DS_AGENT_GRANTED, msg->head.seq, &answer.head, sizeof(answer), g.text, g.n);
}
