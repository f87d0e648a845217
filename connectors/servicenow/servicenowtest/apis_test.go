package servicenowtest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// Section 12: attachments.
func TestSection12Attachments(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	inc := c.create(`{}`)
	where := "?table_name=incident&table_sys_id=" + inc + "&file_name=" + "r%C3%A9sum%C3%A9.txt"
	up := c.do("POST", "/api/now/v1/attachment/file"+where, "hello", "Content-Type", "text/plain").want(201)
	meta := up.record()
	id := meta["sys_id"].(string)
	if want := s.URL + "/api/now/v1/attachment/" + id + "/file"; up.header.Get("Location") != want {
		t.Errorf("Location %q", up.header.Get("Location"))
	}
	for name, want := range map[string]string{
		"file_name": "résumé.txt", "content_type": "text/plain", "size_bytes": "5", "table_name": "incident",
		"table_sys_id": inc, "download_link": s.URL + "/api/now/attachment/" + id + "/file", "state": "available", "sys_created_by": "sim",
		"hash": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "image_width": "",
	} {
		wantField(t, meta, name, want)
	}
	file := c.do("GET", "/api/now/attachment/"+id+"/file", "", "Accept", "*/*").want(200)
	if file.text != "hello" || file.header.Get("Content-Type") != "text/plain" {
		t.Errorf("file %q %v", file.text, file.header)
	}
	var head map[string]string
	mustDo(t, json.Unmarshal([]byte(file.header.Get("X-Attachment-Metadata")), &head))
	if head["file_name"] != "résumé.txt" {
		t.Errorf("X-Attachment-Metadata %v", head)
	}

	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	mustDo(t, w.WriteField("table_name", "incident"))
	mustDo(t, w.WriteField("table_sys_id", inc))
	part, err := w.CreateFormFile("uploadFile", "b.bin")
	mustDo(t, err)
	_, err = part.Write([]byte{0, 1, 2})
	mustDo(t, err)
	mustDo(t, w.Close())
	second := c.do("POST", "/api/now/attachment/upload", form.String(), "Content-Type", w.FormDataContentType()).want(201).record()
	wantField(t, second, "size_bytes", "3")

	for _, path := range []string{"sysparm_query=table_name%3Dincident%5Etable_sys_id%3D" + inc, "table_name=incident&table_sys_id=" + inc} {
		a := c.do("GET", "/api/now/attachment?"+path, "").want(200)
		if len(a.list()) != 2 || a.header.Get("X-Total-Count") != "2" {
			t.Errorf("%s: %d attachments, count %s", path, len(a.list()), a.header.Get("X-Total-Count"))
		}
	}
	wantField(t, c.do("PATCH", "/api/now/attachment/"+id, `{"file_name":"cv.txt"}`).want(200).record(), "file_name", "cv.txt")
	c.do("POST", "/api/now/attachment/"+id+"/attributes", `{"source":"hub"}`).want(201)
	wantField(t, c.get("/api/now/attachment/"+id+"/attributes").want(200).record(), "source", "hub")
	c.do("DELETE", "/api/now/attachment/"+id+"/attributes/source", "").want(204)
	c.do("DELETE", "/api/now/attachment/"+id, "").want(204)
	c.get("/api/now/attachment/" + id).want(404)
	c.get("/api/now/attachment/" + id + "/file").want(404)
	c.do("POST", "/api/now/attachment/file?table_name=incident&table_sys_id=absent&file_name=a", "x", "Content-Type", "text/plain").want(404)
	c.do("POST", "/api/now/attachment/file"+where, "x", "Content-Type", "").want(415)
}

func TestSection12Limits(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{
		Now: now.Now, MaxAttachment: 4, AttachmentExtensions: []string{"txt"},
		Switches: servicenowtest.Switches{ScanDelay: time.Minute},
	})))
	inc := c.create(`{}`)
	send := func(name, body string) answer {
		return c.do("POST", "/api/now/attachment/file?table_name=incident&table_sys_id="+inc+"&file_name="+name, body, "Content-Type", "text/plain")
	}
	send("a.txt", "12345").want(413)
	send("a.exe", "1").want(403)
	r := send("a.txt", "1234").want(201).record()
	wantField(t, r, "state", "pending")
	c.get("/api/now/attachment/" + r["sys_id"].(string) + "/file").want(403)
	now.add(time.Minute)
	c.get("/api/now/attachment/" + r["sys_id"].(string) + "/file").want(200)
}

// Section 13: Aggregate.
func TestSection13Aggregate(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	for _, body := range []string{`{"state":"2","urgency":"1"}`, `{"state":"2"}`, `{"state":"3"}`} {
		c.create(body)
	}
	for query, want := range map[string]string{
		"sysparm_count=true":                                                                                                `{"result":{"stats":{"count":"3"}}}`,
		"sysparm_count=true&sysparm_query=state%3D2":                                                                        `{"result":{"stats":{"count":"2"}}}`,
		"sysparm_count=true&sysparm_group_by=state":                                                                         `{"result":[{"groupby_fields":[{"field":"state","value":"2"}],"stats":{"count":"2"}},{"groupby_fields":[{"field":"state","value":"3"}],"stats":{"count":"1"}}]}`,
		"sysparm_count=true&sysparm_group_by=state&sysparm_display_value=true":                                              `{"result":[{"groupby_fields":[{"field":"state","value":"In Progress"}],"stats":{"count":"2"}},{"groupby_fields":[{"field":"state","value":"On Hold"}],"stats":{"count":"1"}}]}`,
		"sysparm_count=true&sysparm_group_by=state&sysparm_having=count^state^>^1":                                          `{"result":[{"groupby_fields":[{"field":"state","value":"2"}],"stats":{"count":"2"}}]}`,
		"sysparm_group_by=state&sysparm_order_by=state^DESC":                                                                `{"result":[{"groupby_fields":[{"field":"state","value":"3"}],"stats":{}},{"groupby_fields":[{"field":"state","value":"2"}],"stats":{}}]}`,
		"sysparm_avg_fields=urgency&sysparm_min_fields=urgency,state&sysparm_max_fields=urgency&sysparm_sum_fields=urgency": `{"result":{"stats":{"avg":{"urgency":"2.3333"},"max":{"urgency":"3"},"min":{"state":"2","urgency":"1"},"sum":{"urgency":"7"}}}}`,
	} {
		if got := c.do("GET", "/api/now/stats/incident?"+strings.NewReplacer("^", "%5E", ">", "%3E").Replace(query), "").want(200).text; strings.TrimSpace(got) != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
}

// Section 13: Import Set. A refused row is an error inside a 201.
func TestSection13ImportSet(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	type answerBody struct {
		ImportSet    string `json:"import_set"`
		StagingTable string `json:"staging_table"`
		Result       []map[string]string
	}
	send := func(body, status string) answerBody {
		t.Helper()
		var v answerBody
		c.do("POST", "/api/now/import/u_incident_import", body).want(201).decode(&v)
		if len(v.Result) != 1 || v.Result[0]["status"] != status || v.StagingTable != "u_incident_import" || v.ImportSet == "" {
			t.Errorf("%s: %+v, want status %s", body, v, status)
		}
		return v
	}
	first := send(`{"correlation_id":"c","short_description":"a"}`, "inserted")
	second := send(`{"correlation_id":"c","short_description":"b"}`, "updated")
	if first.Result[0]["sys_id"] != second.Result[0]["sys_id"] || first.Result[0]["display_name"] != "number" || first.Result[0]["display_value"] != "INC0010001" {
		t.Errorf("%+v then %+v", first, second)
	}
	send(`{"correlation_id":"c","short_description":"b"}`, "ignored")
	if bad := send(`{"correlation_id":"c","state":"6"}`, "error"); !strings.Contains(bad.Result[0]["error_message"], "Data Policy Exception") {
		t.Errorf("error line %+v", bad)
	}
	var many struct {
		ID string `json:"import_set_id"`
	}
	c.do("POST", "/api/now/import/u_incident_import/insertMultiple", `{"records":[{"correlation_id":"d"},{"correlation_id":"e"}]}`).want(201).decode(&many)
	if many.ID == "" || len(s.Tickets()) != 3 {
		t.Errorf("insertMultiple: %+v, %d tickets", many, len(s.Tickets()))
	}
	c.get("/api/now/import/u_incident_import/" + many.ID).want(200)
	c.get("/api/now/import/u_incident_import/absent").want(404)
	c.do("POST", "/api/now/import/u_other", `{}`).want(400)
}

// Section 13: Batch needs a version; items stand alone.
func TestSection13Batch(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	b64 := base64.StdEncoding.EncodeToString
	body := fmt.Sprintf(`{"batch_request_id":7,"rest_requests":[
		{"id":"1","method":"POST","url":"/api/now/table/incident","headers":[{"name":"Content-Type","value":"application/json"}],"body":%q},
		{"id":"2","method":"GET","url":"/api/now/table/incident?sysparm_limit=1","headers":[{"name":"Accept","value":"application/json"}]},
		{"id":"3","method":"GET","url":"/api/now/table/incident/absent","exclude_response_headers":true}]}`, b64([]byte(`{"short_description":"in a batch"}`)))
	c.do("POST", "/api/now/batch", body).want(400)
	var v struct {
		ID       string `json:"batch_request_id"`
		Serviced []struct {
			ID      string
			Status  int    `json:"status_code"`
			Text    string `json:"status_text"`
			Body    string
			Headers []struct{ Name, Value string }
		} `json:"serviced_requests"`
		Unserviced []string `json:"unserviced_requests"`
	}
	c.do("POST", "/api/now/v1/batch", body).want(200).decode(&v)
	if v.ID != "7" || len(v.Serviced) != 3 || v.Unserviced == nil {
		t.Fatalf("batch %+v", v)
	}
	for i, status := range []int{201, 200, 404} {
		if v.Serviced[i].Status != status || v.Serviced[i].ID != fmt.Sprint(i+1) {
			t.Errorf("item %d: %+v", i, v.Serviced[i])
		}
	}
	text, err := base64.StdEncoding.DecodeString(v.Serviced[0].Body)
	if err != nil || !strings.Contains(string(text), "in a batch") {
		t.Errorf("item body %q %v", text, err)
	}
	count := ""
	for _, h := range v.Serviced[1].Headers {
		if h.Name == "X-Total-Count" {
			count = h.Value
		}
	}
	if count != "1" || v.Serviced[2].Headers != nil {
		t.Errorf("X-Total-Count %q, excluded headers %v", count, v.Serviced[2].Headers)
	}
}
