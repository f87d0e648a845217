package mapping
import ("testing";"os";"liaison/connectors";"liaison/internal/incident")
func TestTry(t *testing.T){
 for _,f:=range []string{"servicenow","requesttracker"}{
  b,_:=os.ReadFile("../../connectors/"+f+"/mapping.yaml")
  m,err:=Load("connectors/"+f+"/mapping.yaml",b)
  if err!=nil {t.Error(err);continue}
  t.Log(m.VendorFields(), m.Version())
  t.Log("\n"+m.Explain(connectors.Fields{"state":"3","hold_reason":"4","priority":"9","Status":"stalled","short_descripton":"x"}).String())
  t.Log("\n"+m.ExplainHub(incident.Incident{Title:"x",State:incident.Resolved,Priority:incident.P2,Category:"Network"}.Values()).String())
 }
}
